"""Flags that say how pictures are enlarged, of jobs/upscale.py and jobs/generate.py."""

from dataclasses import dataclass
from typing import Literal

from painter_core.flag_checks import check_range, refuse_unused

LANCZOS = "lanczos"
SCALES = (2, 4)


@dataclass(frozen=True, kw_only=True)
class UpscaleFlags:
    """How pictures are enlarged, if they are."""

    upscale: Literal[2, 4] | None = None
    """How many times as wide and high pictures become. With --upscaler FILE the file says it: leave this out,
    or give the same."""
    upscaler: str = LANCZOS
    """lanczos: Pillow's filter; or FILE: weights of a super-resolution network (.pth, .safetensors ...;
    Real-ESRGAN, SwinIR, HAT ...), which needs pip install 'painter[upscale]'."""
    upscale_tile: int = 256
    """Of --upscaler FILE: larger pictures go through the network in tiles of so many pixels a side."""

    def __post_init__(self) -> None:
        if self.upscale not in (None, *SCALES):
            raise ValueError(f"--upscale: got {self.upscale}, expected 2 or 4")
        check_range("--upscale-tile", self.upscale_tile, 64, 8192)
        if not self.upscaler:
            raise ValueError("--upscaler: got an empty name, expected lanczos or a file of weights")
        if self.file is None:
            refuse_unused(self, ["upscale_tile"], "without --upscaler FILE")

    @property
    def file(self) -> str | None:
        """The network's file; None for Lanczos."""
        return None if self.upscaler == LANCZOS else self.upscaler

    @property
    def wanted(self) -> bool:
        """Whether pictures are enlarged at all."""
        return self.upscale is not None or self.file is not None
