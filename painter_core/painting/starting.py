"""Pictures that are painted on: the codes of a picture's upper rows are kept, the model paints the rest.

Codes stand in raster order, so the upper rows are a sequence's first codes, which are read with the caption.
"""

from dataclasses import dataclass

import numpy as np

from painter_core.flag_checks import check_range
from painter_core.models.vqgan import VQGANConfig
from painter_core.painting.encoding import encode_pictures
from painter_core.painting.painter import Painter

SHARE = 0.4375  # of the rows: 14 of 32, as in DALLE-pytorch, 7 of 16


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Pictures to paint on."""

    init_image: str | None = None
    """Column of a picture (base64, or bytes in Parquet) whose upper rows of codes are kept; the rest is
    painted, by the caption."""
    init_share: float | None = None
    """Share of the rows that --init-image keeps, by default 0.4375."""

    def __post_init__(self) -> None:
        if self.init_image is None and self.init_share is not None:
            raise ValueError(f"--init-share {self.init_share}: goes with --init-image COLUMN")
        check_range("--init-share", self.init_share, 0, 1, above=True)

    def num_rows(self, vqgan: VQGANConfig) -> int:
        """Rows of codes that are kept; 0 without --init-image."""
        return 0 if self.init_image is None else start_rows(self.init_share or SHARE, vqgan.grid_size)


def start_rows(share: float, grid_size: int) -> int:
    """Rows of a grid that a share of them is, to the nearest whole one; ValueError for none or all."""
    rows = int(share * grid_size + 0.5)
    if not 0 < rows < grid_size:
        raise ValueError(
            f"--init-share {share}: keeps {rows} of the {grid_size} rows of codes, expected 1 to "
            f"{grid_size - 1}: {1 / grid_size:g} to {1 - 1 / grid_size:g}"
        )
    return rows


def start_codes(painter: Painter, pictures: np.ndarray, num_rows: int) -> np.ndarray:
    """The first codes of pictures, int64 (n, num_rows * grid_size).

    Args:
        pictures: uint8 (n, S, S, 3).
        num_rows: of the grid.
    """
    found = encode_pictures(
        painter.vqgan, pictures, device=painter.device, micro_batch_size=painter.micro_batch_size
    )
    return found[:, : num_rows * painter.vqgan.config.grid_size]
