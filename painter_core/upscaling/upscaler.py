"""What enlarges the pictures of a run: planned in the driver, named by its content, and loaded by workers."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from painter_core.files.storage import absolute, file_sha256, is_local
from painter_core.upscaling.flags import UpscaleFlags
from painter_core.upscaling.network import Network

log = logging.getLogger(__name__)

MAPS = 6  # of the largest feature maps that are held at once


@dataclass(frozen=True, kw_only=True)
class Upscaler:
    """What enlarges pictures."""

    scale: int
    file: str | None = None
    """The network's weights; None for Lanczos."""
    tile: int = 0
    """Longest side of what the network is given, in pixels."""
    sha256: str = ""
    """Of the file."""
    width: int = 0
    """Most channels of one of its feature maps."""
    weights_bytes: int = 0

    def identity(self) -> dict[str, Any]:
        """What makes the larger pictures, besides the pictures."""
        if self.file is None:
            return {"scale": self.scale, "upscaler": "lanczos"}
        return {"scale": self.scale, "upscaler_sha256": self.sha256, "tile": self.tile}

    def memory_bytes(self, width: int | None = None, height: int | None = None) -> int:
        """About how much memory the network needs for a picture of this size, or for a tile."""
        if self.file is None:
            return 0
        pixels = min(width or self.tile, self.tile) * min(height or self.tile, self.tile)
        return MAPS * 4 * self.width * pixels * self.scale**2

    def log_memory(self, width: int | None = None, height: int | None = None) -> None:
        """Says what a worker needs for a picture of this size, or for a tile; nothing for Lanczos."""
        if self.file is not None:
            needed = (self.weights_bytes + self.memory_bytes(width, height)) / 1e9
            log.info("%s: enlarges %d times; about %.2f GB of memory a worker", self.file, self.scale, needed)

    def load(self, device: torch.device) -> Network:
        """The network on a worker's device."""
        assert self.file is not None
        return Network(self.file, device=device, tile=self.tile)


def plan_upscaler(flags: UpscaleFlags) -> Upscaler:
    """What the flags ask for.

    Raises:
        ValueError: the file cannot be read, holds no network that enlarges, or one of another scale.
    """
    if flags.file is None:
        if flags.upscale is None:
            raise ValueError(
                "--upscale: not given; expected 2 or 4, or --upscaler FILE, which says it itself"
            )
        return Upscaler(scale=flags.upscale)
    if not is_local(flags.file):
        raise ValueError(f"--upscaler {flags.file}: a URL; copy the file to a path that all nodes see")
    file = absolute(flags.file)
    network = Network(file, device=torch.device("cpu"), tile=flags.upscale_tile)
    if flags.upscale not in (None, network.scale):
        raise ValueError(
            f"--upscale {flags.upscale}: {file} enlarges {network.scale} times; leave the flag out, or give "
            "another file"
        )
    return Upscaler(
        scale=network.scale,
        file=file,
        tile=flags.upscale_tile,
        sha256=file_sha256(Path(file)),
        width=network.width,
        weights_bytes=network.weights_bytes,
    )
