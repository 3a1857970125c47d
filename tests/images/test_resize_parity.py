"""--resize bilinear against EasyNLP's transform, by formula: no OpenCV is needed.

EasyNLP resizes by OpenCV's INTER_LINEAR: target pixel x lies at (x + 0.5) * length / resized - 0.5 in the
source and mixes its two neighbours there, at the border one, whatever the reduction. The shorter side becomes
`size`, the longer one round(longer * size / shorter); the crop starts at (resized - size) // 2. OpenCV rounds
its weights to 1/2048, so values may differ by 1.
"""

import math
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from painter_core.images.decode import decode_image


def png(pixels: np.ndarray, **options: object) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG", **options)
    return out.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return (
        np.random.RandomState(height * 7919 + width)
        .randint(0, 256, (height, width, channels))
        .astype(np.uint8)
    )


def source_position(target: int, length: int, shorter: int, size: int) -> tuple[int, int, float]:
    """The two neighbours of a target position along one side, and the weight of the second."""
    resized = round(length * (size / shorter))
    x = (target + (resized - size) // 2 + 0.5) * length / resized - 0.5
    x = min(max(x, 0.0), length - 1.0)
    first = math.floor(x)
    return first, min(first + 1, length - 1), x - first


def expected(pixels: np.ndarray, size: int, row: int, column: int) -> np.ndarray:
    """One target pixel, float64."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    y0, y1, wy = source_position(row, height, shorter, size)
    x0, x1, wx = source_position(column, width, shorter, size)
    source = pixels.astype(np.float64)
    above = source[y0, x0] * (1 - wx) + source[y0, x1] * wx
    below = source[y1, x0] * (1 - wx) + source[y1, x1] * wx
    return above * (1 - wy) + below * wy


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (64, 64, 64),  # as it is
        (64, 96, 64),  # crop only
        (40, 30, 64),  # up
        (17, 300, 64),  # up, very wide
        (128, 128, 64),  # down by 2, where OpenCV averages squares
        (100, 133, 64),  # down
        (333, 101, 64),  # down, high
        (640, 480, 256),
        (800, 800, 256),
        (65, 64, 64),
        (99, 64, 64),  # (resized - size) is odd
    ],
)
def test_every_pixel_is_within_one_of_the_formula(height: int, width: int, size: int) -> None:
    pixels = noise(height, width)
    actual = decode_image(png(pixels), size, "bilinear").astype(np.float64)
    rng = np.random.RandomState(0)
    corners = [(0, 0), (0, size - 1), (size - 1, 0), (size - 1, size - 1)]
    places = corners + [tuple(p) for p in rng.randint(0, size, (400, 2))]
    for row, column in places:
        assert np.abs(actual[row, column] - expected(pixels, size, row, column)).max() <= 1, (row, column)


@pytest.mark.parametrize(("length", "size"), [(30, 64), (200, 64), (1000, 256)])
def test_a_ramp_stays_a_ramp(length: int, size: int) -> None:
    # closed form: between its ends a linear ramp is reproduced at the sampled positions
    ramp = np.round(np.arange(length) * 255 / (length - 1)).astype(np.uint8)
    pixels = np.repeat(np.repeat(ramp[None, :, None], length, 0), 3, 2)
    actual = decode_image(png(pixels), size, "bilinear")[size // 2, :, 0].astype(np.float64)
    positions = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    assert np.abs(actual - positions * 255 / (length - 1)).max() <= 1.5  # the ramp itself was rounded


def test_there_is_no_antialiasing() -> None:
    # a reduction by 8 of noise keeps its spread when four neighbours are mixed, and loses it when all are
    pixels = noise(512, 512)
    plain = decode_image(png(pixels), 64, "bilinear").std()
    smooth = decode_image(png(pixels), 64, "antialias").std()
    assert plain > 30
    assert smooth < 15


def test_exif_orientation_is_ignored() -> None:
    pixels = noise(40, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    np.testing.assert_array_equal(
        decode_image(png(pixels, exif=exif), 40, "bilinear"), decode_image(png(pixels), 40, "bilinear")
    )


def test_alpha_is_dropped_as_in_easynlp() -> None:
    pixels = noise(48, 48, 4)
    actual = decode_image(png(pixels), 48, "bilinear", "drop")
    np.testing.assert_array_equal(actual, pixels[..., :3])


def test_grey_and_palette_become_rgb() -> None:
    grey = noise(32, 32, 1)[..., 0]
    np.testing.assert_array_equal(decode_image(png(grey), 32, "bilinear"), np.repeat(grey[..., None], 3, 2))
    out = BytesIO()
    palette = Image.fromarray(noise(32, 32)).quantize(16)
    palette.save(out, "PNG")
    np.testing.assert_array_equal(
        decode_image(out.getvalue(), 32, "bilinear"), np.asarray(palette.convert("RGB"))
    )
