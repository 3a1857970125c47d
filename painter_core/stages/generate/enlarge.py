"""--upscaler FILE: a network that enlarges pictures where they are painted."""

from typing import Any

import numpy as np
import torch

from painter_core.stages.pins import check_pins
from painter_core.upscaling.flags import UpscaleFlags
from painter_core.upscaling.network import Network
from painter_core.upscaling.upscaler import plan_upscaler


class Enlarger:
    """Pictures uint8 (n, S, S, 3) -> the same, larger; as they are if nothing enlarges them, or Lanczos where
    they are encoded.

    Args:
        identity: of the run, which names the network by its content.
        device: where the network runs.
    """

    def __init__(self, flags: UpscaleFlags, identity: dict[str, Any], device: torch.device) -> None:
        self._network: Network | None = None
        if flags.file is not None:
            upscaler = plan_upscaler(flags)
            check_pins(flags.file, {"upscaler_sha256": upscaler.sha256}, identity["upscale"])
            self._network = upscaler.load(device)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The pictures."""
        if self._network is None:
            return pixels
        size = self._network.scale * pixels.shape[1]
        larger = [self._network(picture) for picture in pixels]
        return np.array(larger, np.uint8).reshape(-1, size, size, 3)
