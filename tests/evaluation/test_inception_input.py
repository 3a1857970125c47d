"""How pictures come to Inception: three ways that differ, each held against a computation of its own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from painter_core.evaluation.inception_input import SIDE, blur_taps, blurred, inception_input
from tests.golden.formula import image

SIZES = ((64, 64), (299, 299), (200, 300), (17, 300), (640, 480))  # height, width


def some_picture(height: int, width: int) -> np.ndarray:
    return np.random.RandomState(height + width).randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_torch_fidelity_is_tensorflows_resize(height: int, width: int) -> None:
    """Point by point: corners are aligned, four neighbours, no antialiasing."""
    picture = some_picture(height, width)
    found = inception_input(picture, "torch-fidelity")
    assert (found.dtype, found.shape) == (np.float32, (3, SIDE, SIDE))
    for y, x in ((0, 0), (1, 2), (150, 7), (298, 298)):
        v, u = np.float32(y) * np.float32(height / SIDE), np.float32(x) * np.float32(width / SIDE)
        top, left = int(v), int(u)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = float(v) - top, float(u) - left
        corners = picture.astype(float)
        upper = corners[top, left] * (1 - dx) + corners[top, right] * dx
        lower = corners[bottom, left] * (1 - dx) + corners[bottom, right] * dx
        wanted = (upper * (1 - dy) + lower * dy - 128) / 128
        np.testing.assert_allclose(found[:, y, x], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pytorch_fid_is_torchs_interpolate(height: int, width: int) -> None:
    picture = some_picture(height, width)
    pixels = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None].float() / 255
    resized = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(
        inception_input(picture, "pytorch-fid"), (2 * resized - 1)[0].numpy(), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_clean_is_pillows_bicubic_in_floating_point(height: int, width: int) -> None:
    picture = some_picture(height, width)
    red = Image.fromarray(picture[..., 0].astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    wanted = (np.asarray(red).clip(0, 255) - 128) / 128
    np.testing.assert_array_equal(inception_input(picture, "clean")[0], wanted)


def test_the_ways_differ() -> None:
    picture = image(3, 640)
    found = [inception_input(picture, way) for way in ("torch-fidelity", "pytorch-fid", "clean")]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found[a] - found[b]).mean() > 0.003


@pytest.mark.parametrize("way", ["torch-fidelity", "pytorch-fid", "clean"])
def test_a_constant_picture_stays_constant(way: str) -> None:
    found = inception_input(np.full((40, 50, 3), 200, np.uint8), way)  # type: ignore[arg-type]
    wanted = 200 / 127.5 - 1 if way == "pytorch-fid" else (200 - 128) / 128
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("radius", [1, 2, 4, 8, 15])
def test_blur_is_the_gaussian_that_is_published(radius: int) -> None:
    picture = some_picture(40, 16)
    taps = torch.from_numpy(blur_taps(radius))
    variance = (torch.arange(-radius, radius + 1) ** 2 * taps).sum()
    assert float(taps.sum()) == pytest.approx(1)
    assert float(variance) < ((2 * radius + 1) ** 2 - 1) / 12  # of the whole Gaussian, which the taps cut
    pixels = torch.from_numpy(picture.transpose(2, 0, 1).astype(float))[:, None]  # channels as pictures
    padded = F.pad(pixels, (radius,) * 4, mode="reflect")
    wanted = F.conv2d(padded, torch.outer(taps, taps)[None, None])[:, 0].permute(1, 2, 0).numpy()
    assert np.abs(blurred(picture, radius) - wanted).max() <= 0.5 + 1e-9  # rounded to 8 bits
    assert blurred(picture, radius).dtype == np.uint8


def test_blur_of_0_changes_nothing() -> None:
    picture = some_picture(20, 20)
    assert blurred(picture, 0) is picture
