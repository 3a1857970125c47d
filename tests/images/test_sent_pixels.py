"""Pictures sent as bytes are the pixels that they were when they were sent as floats."""

import numpy as np
import torch

from painter_core.images.pixels import sent_pixels, to_pixels


def test_pixels_are_the_same_bit_by_bit() -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)[[3, 0, 4]]
    found = sent_pixels(pictures, torch.device("cpu"))
    assert torch.equal(found, to_pixels(pictures))
    assert sent_pixels(pictures, torch.device("meta")).shape == (3, 3, 8, 8)
