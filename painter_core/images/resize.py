"""Bilinear resizing as OpenCV's INTER_LINEAR does it, to the last bit: EasyNLP's transform."""

import contextlib

import numpy as np
import pyarrow as pa
from PIL import Image

_WEIGHT_BITS = 11  # OpenCV's fixed point


def resize_bilinear(rgb: Image.Image, size: int) -> np.ndarray:
    """RGB (H, W) -> uint8 (size, size, 3), in OpenCV's fixed point; only what the crop keeps is computed."""
    width, height = rgb.size
    scale = size / min(height, width)
    if scale == 1:
        left, top = (width - size) // 2, (height - size) // 2
        return np.asarray(rgb.crop((left, top, left + size, top + size)))
    y0, y1, wy0, wy1 = _taps(height, round(height * scale), size)
    x0, x1, wx0, wx1 = _taps(width, round(width * scale), size)
    lines, channels = _lines(rgb)  # (H, W * channels): a gather of single bytes is the fastest
    left_bytes, right_bytes = ((x[:, None] * channels + np.arange(3)).ravel() for x in (x0, x1))
    wx0, wx1 = wx0.repeat(3), wx1.repeat(3)

    def weighted(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """int32 (size, size * 3) in quarter levels: rows interpolated across, times their weight."""
        picked = lines[rows]
        mixed = picked.take(left_bytes, axis=1) * wx0
        mixed += picked.take(right_bytes, axis=1) * wx1
        mixed >>= 4
        mixed *= weight[:, None]
        mixed >>= 16
        return mixed

    mixed = weighted(y0, wy0)
    mixed += weighted(y1, wy1)
    mixed += 2
    mixed >>= 2
    return mixed.astype(np.uint8).reshape(size, size, 3)


def _lines(rgb: Image.Image) -> tuple[np.ndarray, int]:
    """uint8 (H, W * channels) of an RGB picture, and its channels: 4 if Pillow's own memory can be seen."""
    width, height = rgb.size
    if hasattr(rgb, "__arrow_c_array__"):
        with contextlib.suppress(ValueError):  # above 16 MiB it is not in one piece
            return pa.array(rgb).flatten().to_numpy().reshape(height, width * 4), 4
    return np.asarray(rgb).reshape(height, width * 3), 3


def _taps(length: int, resized: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Source positions below and above each kept target position, and their weights of 2048 (int32)."""
    target = np.arange(size) + (resized - size) // 2
    source = ((target + 0.5) * (1 / (resized / length)) - 0.5).astype(np.float32)
    below = np.floor(source)
    above = source - below  # float32, as in OpenCV: the weights are rounded from it
    unit = np.float32(2**_WEIGHT_BITS)
    weights = (np.rint((1 - above) * unit).astype(np.int32), np.rint(above * unit).astype(np.int32))
    first = below.astype(np.int32)
    return first.clip(0, length - 1), (first + 1).clip(0, length - 1), *weights
