"""Other views of a picture for training: a crop, a mirror image, other light. Without torch.

A view is a function of (seed, idx, variant); variant 0 is the picture itself.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance

AUGMENTATIONS = ("crop", "flip", "colour")
SMALLEST_CROP = 0.85  # side of a crop, as a share of the picture's
MOST_LIGHT = 0.12  # change of brightness, contrast and saturation: colours keep their names


def augmented(pixels: np.ndarray, ways: Sequence[str], *, seed: int, idx: str, variant: int) -> np.ndarray:
    """A view of a picture.

    Args:
        pixels: uint8 (S, S, 3).
        ways: some of AUGMENTATIONS; `flip` mirrors every second view, right for left.
        seed, idx, variant: which view.

    Returns:
        uint8 (S, S, 3).
    """
    if variant == 0:
        return pixels
    digest = hashlib.sha256(f"{seed}\0{variant}\0{idx}".encode("utf-8", "surrogatepass")).digest()
    # all numbers are drawn, whatever is asked for: a way more changes nothing of the others
    share, left, top, mirror, *light = np.random.Generator(
        np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    ).random(7)
    image, side = Image.fromarray(pixels), len(pixels)
    if "crop" in ways:
        crop = side * (SMALLEST_CROP + (1 - SMALLEST_CROP) * share)
        x, y = (side - crop) * left, (side - crop) * top
        image = image.resize((side, side), Image.Resampling.BICUBIC, box=(x, y, x + crop, y + crop))
    if "flip" in ways and mirror < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if "colour" in ways:
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for enhancer, number in zip(enhancers, light, strict=True):
            image = enhancer(image).enhance(1 + MOST_LIGHT * (2 * number - 1))
    return np.asarray(image)
