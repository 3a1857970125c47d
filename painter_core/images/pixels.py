"""uint8 pictures to a model's pixels and back: (B, S, S, 3) <-> float (B, 3, S, S) in [-1, 1].

Apart from decode.py, so that processes which only decode or encode pictures do not import torch.
"""

import numpy as np
import torch
from torch import Tensor


def to_pixels(batch: np.ndarray | Tensor) -> Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S) in [-1, 1], on the batch's device."""
    return torch.as_tensor(batch).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def sent_pixels(batch: np.ndarray, device: torch.device) -> Tensor:
    """to_pixels() on a device, to which a quarter of the bytes is sent."""
    whole = torch.from_numpy(np.ascontiguousarray(batch))
    if device.type == "cuda":
        whole = whole.pin_memory()
    return to_pixels(whole.to(device, non_blocking=True))


def quantize_pixels(pixels: Tensor) -> Tensor:
    """Float (B, 3, S, S) about [-1, 1] -> uint8 (B, S, S, 3): clipped and truncated, as EasyNLP does."""
    scaled = (pixels.float() + 1.0).mul_(127.5).clamp_(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def to_uint8(pixels: Tensor) -> np.ndarray:
    """quantize_pixels() as an array on the host.

    Raises:
        RuntimeError: a pixel is NaN or infinite, which uint8 cannot hold.
    """
    if not pixels.isfinite().all():
        raise RuntimeError("pixels are not finite: the VQGAN's weights are damaged; copy the model again")
    return quantize_pixels(pixels).cpu().numpy()
