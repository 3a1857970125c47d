"""A super-resolution network from a user's file, recognised and built by spandrel.

The file is read by our own restricted reader, so that nothing in it runs; spandrel gets tensors by name. It
is an optional package: pip install 'painter[upscale]'.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from painter_core.compute.devices import set_inference
from painter_core.model_files.finite import is_finite
from painter_core.model_files.weights_file import read_weights
from painter_core.upscaling.tiles import in_tiles

MOST_SCALE = 8
# what the readers of single architectures raise on tensors of another one
_UNFIT = (RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError)


class Network:
    """A network on a device, in float32: a picture alone at a time, so that it depends on no other.

    Args:
        file: its weights.
        device: where it runs.
        tile: longest side in pixels that it is given.

    Raises:
        ValueError: the file, or the package that reads it, will not do.
    """

    def __init__(self, file: str, *, device: torch.device, tile: int) -> None:
        self._file, self._device = file, device
        self._found = _opened(file)
        self.scale = int(self._found.scale)
        # some have tiles of their own, since they look at the whole picture
        self._tile = tile if self._found.tiling.name != "INTERNAL" else 2**31
        self._found.model.requires_grad_(False)
        self._found.to(device, torch.float32).eval()

    @property
    def width(self) -> int:
        """Most channels of a feature map, by the weights."""
        shapes = (p.shape for p in self._found.model.parameters() if p.dim() == 4)
        return max((max(shape[:2]) for shape in shapes), default=1)

    @property
    def weights_bytes(self) -> int:
        """Bytes of its weights in float32."""
        return 4 * sum(p.numel() for p in self._found.model.parameters())

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (H * scale, W * scale, 3).

        Raises:
            RuntimeError: a pixel is NaN or infinite.
        """
        set_inference("fp32")  # settings of the whole process, which a painter may have changed
        return in_tiles(picture, self._enlarge, scale=self.scale, tile=self._tile)

    def _enlarge(self, picture: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(picture.copy()).to(self._device)
        found: Tensor = self._found(pixels.permute(2, 0, 1)[None].float().div_(255))  # (1, 3, H, W) in [0, 1]
        if not found.isfinite().all():
            raise RuntimeError(
                f"{self._file}: the network's pixels are not finite: its weights are damaged, or not those "
                "of a network for pictures; copy the file again"
            )
        return found[0].permute(1, 2, 0).mul(255).round_().to(torch.uint8).cpu().numpy()


def _opened(file: str) -> Any:
    """spandrel's model of a file; ValueError if there is none that enlarges RGB pictures."""
    spandrel = _spandrel(file)
    state = read_weights(Path(file))
    for name, tensor in state.items():
        if tensor.is_floating_point() and not is_finite(tensor):
            raise ValueError(f"--upscaler {file}: {name} holds values that are not finite; copy it again")
    try:
        found = spandrel.ModelLoader().load_from_state_dict(state)
    except spandrel.UnsupportedModelError:
        raise ValueError(
            f"--upscaler {file}: its {len(state)} tensors are of no network that spandrel knows; give a file "
            "of weights as its authors published them"
        ) from None
    except _UNFIT as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"--upscaler {file}: looks like a network that spandrel knows, and does not fit it ({reason}); "
            "give a file of weights as its authors published them"
        ) from None
    is_plain = isinstance(found, spandrel.ImageModelDescriptor)
    channels = (found.input_channels, found.output_channels)
    if not is_plain or channels != (3, 3) or not 2 <= found.scale <= MOST_SCALE:
        raise ValueError(
            f"--upscaler {file}: {found.architecture.name}, {channels[0]} channels to {channels[1]}, scale "
            f"{found.scale}; expected a network of RGB pictures with a scale of 2 to {MOST_SCALE}"
        )
    return found


def _spandrel(file: str) -> ModuleType:
    """The package; ValueError if it is not there, or does not fit this torch."""
    try:
        import spandrel
    except ImportError as error:
        raise ValueError(
            f"--upscaler {file}: needs the package spandrel, which this node lacks ({error}); "
            "pip install 'painter[upscale]'"
        ) from None
    except RuntimeError as error:  # torchvision looks for its operators when it is imported
        raise ValueError(
            f"--upscaler {file}: spandrel cannot be imported here ({error}): torchvision is of another build "
            "than torch; install both from the same place"
        ) from None
    return spandrel
