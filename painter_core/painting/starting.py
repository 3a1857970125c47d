"""Pictures that are not painted from nothing: the codes of their upper rows are given, the model paints the
rest. The codes are those of a picture, or what an earlier run painted; of the latter all may be given, and
then nothing is left to paint.

Codes stand in raster order, so the upper rows are a sequence's first codes, which are read with the caption.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from painter_core.flag_checks import check_range
from painter_core.images.decode import decode_image
from painter_core.models.vqgan import VQGANConfig
from painter_core.painting.encoding import encode_pictures
from painter_core.painting.given_codes import codes_problem
from painter_core.painting.painter import Painter

SHARE = 0.4375  # of a picture's rows: 14 of 32, as in DALLE-pytorch, 7 of 16
Codes = Sequence[int] | np.ndarray


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Pictures to paint on."""

    init_image: str | None = None
    """Column of a picture (base64, or bytes in Parquet) whose upper rows of codes are kept; the rest is
    painted, by the caption."""
    init_codes: str | None = None
    """Column of a picture's codes (lists of uint16 in Parquet, as --codes-column and precompute_codes.py
    write them): nothing is drawn, and they are decoded, for which a VQGAN is enough, or only scored. With
    --init-share below 1 their upper rows are kept, and the rest is painted."""
    init_share: float | None = None
    """Share of the rows that is kept: by default 0.4375 with --init-image, and with --init-codes 1, all."""

    def __post_init__(self) -> None:
        if self.init_image is not None and self.init_codes is not None:
            raise ValueError(
                f"--init-codes {self.init_codes}: a row begins with codes or with a picture; leave out "
                f"--init-image {self.init_image}"
            )
        if self.column is None and self.init_share is not None:
            raise ValueError(
                f"--init-share {self.init_share}: goes with --init-image COLUMN or --init-codes COLUMN"
            )
        check_range("--init-share", self.init_share, 0, 1, above=True)

    @property
    def column(self) -> str | None:
        """The column of what is painted on."""
        return self.init_image if self.init_codes is None else self.init_codes

    @property
    def is_whole(self) -> bool:
        """Whether all codes are given, so that nothing is drawn."""
        return self.init_codes is not None and self.init_share in (None, 1)

    def num_rows(self, vqgan: VQGANConfig) -> int:
        """Rows of codes that are kept; 0 if nothing is given."""
        if self.column is None:
            return 0
        return vqgan.grid_size if self.is_whole else start_rows(self.init_share or SHARE, vqgan.grid_size)


def start_rows(share: float, grid_size: int) -> int:
    """Rows of a grid that a share of them is, to the nearest whole one; ValueError for none or all."""
    rows = int(share * grid_size + 0.5)
    if not 0 < rows < grid_size:
        raise ValueError(
            f"--init-share {share}: keeps {rows} of the {grid_size} rows of codes, expected 1 to "
            f"{grid_size - 1}: {1 / grid_size:g} to {1 - 1 / grid_size:g}; all of them, 1, are kept of "
            "--init-codes only"
        )
    return rows


def start_codes(painter: Painter, pictures: np.ndarray, num_rows: int) -> np.ndarray:
    """The first codes of pictures, int64 (n, num_rows * grid_size).

    Args:
        pictures: uint8 (n, S, S, 3).
        num_rows: of the grid.
    """
    found = encode_pictures(
        painter.vqgan,
        pictures,
        device=painter.device,
        precision=painter.precision,
        micro_batch_size=painter.micro_batch_size,
    )
    return found[:, : num_rows * painter.vqgan.config.grid_size]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the pictures of a call of pipeline() begin with, one for each caption."""

    images: Sequence[Image.Image | bytes] | None = None
    codes: Sequence[Codes] | None = None
    share: float | None = None
    """Of the rows: by default SHARE of pictures, all of codes."""

    def check(self, number: int) -> None:
        """Raises ValueError unless at most one kind is given, for so many captions."""
        for name, given in (("init_images", self.images), ("init_codes", self.codes)):
            if given is not None and len(given) != number:
                raise ValueError(f"{name}: got {len(given)} for {number} texts, expected one a text")
        if self.images is not None and self.codes is not None:
            raise ValueError("init_images and init_codes: expected one of them")

    @property
    def whole(self) -> Sequence[Codes] | None:
        """Codes of whole pictures, of which nothing is drawn; None if there is something to draw."""
        return self.codes if self.share in (None, 1) else None

    def starts(self, painter: Painter, number: int) -> Sequence[np.ndarray | None]:
        """The codes that each caption's pictures begin with."""
        if self.images is not None:
            return _starts_of_images(painter, self.images, self.share)
        if self.codes is not None:
            return starts_of_codes(painter.vqgan.config, self.codes, self.share)
        return [None] * number


def _starts_of_images(
    painter: Painter, images: Sequence[Image.Image | bytes], share: float | None
) -> list[np.ndarray]:
    """The first codes of each picture; ValueError for one that is none."""
    config = painter.vqgan.config
    rows = start_rows(SHARE if share is None else share, config.grid_size)
    return list(start_codes(painter, _decoded(images, config.image_size), rows))


def starts_of_codes(vqgan: VQGANConfig, given: Sequence[Codes], share: float | None) -> list[np.ndarray]:
    """The first of each picture's codes, or all of them; ValueError for codes that are not the VQGAN's."""
    grid = vqgan.grid_size
    first = grid * (grid if share is None or share == 1 else start_rows(share, grid))
    found = []
    for i, codes in enumerate(map(np.asarray, given)):
        if codes.ndim != 1 or codes.dtype.kind not in "iu":
            raise ValueError(
                f"init_codes[{i}]: got {codes.dtype} {codes.shape}, expected whole numbers, one after another"
            )
        if problem := codes_problem(codes, vqgan, least=first):
            raise ValueError(f"init_codes[{i}]: {problem}")
        found.append(codes[:first])
    return found


def _decoded(images: Sequence[Image.Image | bytes], size: int) -> np.ndarray:
    """uint8 (n, size, size, 3), prepared as the pictures of a table are; ValueError for one that is none."""
    found = np.zeros((len(images), size, size, 3), np.uint8)
    for i, image in enumerate(images):
        if isinstance(image, Image.Image):
            out = io.BytesIO()
            image.save(out, "PNG")
            image = out.getvalue()
        try:
            found[i] = decode_image(image, size)
        except ValueError as error:
            raise ValueError(f"init_images[{i}]: {error}") from None
    return found
