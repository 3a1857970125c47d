"""Enlarging by Pillow's Lanczos filter, and how large a result may be. Without torch."""

import numpy as np
from PIL import Image

from painter_core.errors import Reject
from painter_core.images.decode import MAX_PIXELS


def enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (H * scale, W * scale, 3)."""
    height, width = picture.shape[:2]
    size = (width * scale, height * scale)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def check_enlarged(width: int, height: int, scale: int) -> None:
    """Raises Reject for a picture that no job would read once it is enlarged."""
    if width * height * scale**2 > MAX_PIXELS:
        larger = f"{width * scale}x{height * scale}"
        raise Reject(
            "img_too_large", f"{width}x{height}, and {scale} times {larger}, at most {MAX_PIXELS:,} pixels"
        )
