"""A picture as Inception reads it: uint8 (H, W, 3) of any size -> float32 (3, 299, 299) about [-1, 1].

The field has three ways to get there, and their distances differ (docs/EVALUATION.md). A picture is squashed,
not cropped. Without torch: CPU workers run this.
"""

from typing import Literal

import numpy as np
from PIL import Image

Convention = Literal["torch-fidelity", "pytorch-fid", "clean"]
SIDE = 299
MAX_BLUR = 15  # the shortest picture has 16 pixels, and a blur mirrors k of them


def inception_input(picture: np.ndarray, convention: Convention) -> np.ndarray:
    """Resizes a picture and scales its values.

    Args:
        convention: `torch-fidelity`: bilinear without antialiasing between pixels' corners, as TensorFlow 1
            did, and (x - 128) / 128. `pytorch-fid`: bilinear between pixels' centres, and x / 127.5 - 1.
            `clean`: Pillow's bicubic filter in floating point, clipped, and (x - 128) / 128.
    """
    if convention == "clean":
        channels = (Image.fromarray(picture[..., c].astype(np.float32)) for c in range(3))
        resized = [np.asarray(c.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for c in channels]
        return (np.stack(resized).clip(0, 255) - 128) / 128
    values = picture.astype(np.float32)
    if convention == "pytorch-fid":
        return (2 * _bilinear(values / 255, centres=True) - 1).transpose(2, 0, 1)
    return ((_bilinear(values, centres=False) - 128) / 128).transpose(2, 0, 1)


def _bilinear(values: np.ndarray, *, centres: bool) -> np.ndarray:
    """float32 (H, W, 3) -> (299, 299, 3), four neighbours each, whatever the reduction."""
    (top, bottom, down), (left, right, across) = (_taps(n, centres=centres) for n in values.shape[:2])
    across, down = across[:, None], down[:, None, None]
    upper, lower = values[top], values[bottom]  # (299, W, 3)
    upper = upper[:, left] + (upper[:, right] - upper[:, left]) * across
    lower = lower[:, left] + (lower[:, right] - lower[:, left]) * across
    return upper + (lower - upper) * down


def _taps(length: int, *, centres: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source positions below and above each target position, and its distance from the lower one."""
    target = np.arange(SIDE, dtype=np.float32)
    scale = np.float32(length / SIDE)
    half = np.float32(0.5)
    source = ((target + half) * scale - half).clip(0) if centres else target * scale
    below = source.astype(np.int64).clip(0, length - 1)
    return below, (below + 1).clip(0, length - 1), source - below.astype(np.float32)


def blurred(picture: np.ndarray, radius: int) -> np.ndarray:
    """A picture after FID-k's Gaussian filter of radius k, uint8 as before; radius 0 changes nothing.

    2 k + 1 taps of a Gaussian whose deviation is that of as wide a box, sqrt(((2 k + 1)^2 - 1) / 12), edges
    mirrored: what Lafite's authors say they use. The papers give the radius only.
    """
    if radius == 0:
        return picture
    channels = (_blurred(picture[..., c].astype(np.float64), radius) for c in range(3))
    return np.stack([np.rint(channel).astype(np.uint8) for channel in channels], axis=2)


def _blurred(values: np.ndarray, radius: int) -> np.ndarray:
    """(H, W) -> (H, W)."""
    for axis in (0, 1):
        sides = [(radius, radius) if a == axis else (0, 0) for a in (0, 1)]
        padded, places = np.pad(values, sides, mode="reflect"), np.arange(values.shape[axis])
        values = np.zeros(values.shape)
        for i, tap in enumerate(blur_taps(radius).tolist()):
            values += tap * padded.take(places + i, axis=axis)
    return values


def blur_taps(radius: int) -> np.ndarray:
    """The filter along one axis, float64 (2 radius + 1,), its sum 1."""
    place = np.arange(-radius, radius + 1)
    variance = ((2 * radius + 1) ** 2 - 1) / 12
    weights = np.exp(-(place**2) / (2 * variance))
    return weights / weights.sum()
