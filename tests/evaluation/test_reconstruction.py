"""PSNR and SSIM by their definitions, and the likelihood of codes, which is training's loss."""

import math

import numpy as np
import pytest
import torch

from painter_core.evaluation.likelihood import bits_per_code
from painter_core.evaluation.reconstruction import psnr, ssim
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.training.gpt import loss_sum
from tests.golden.formula import image

SIDE = 32


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    pictures = np.stack([image(i, SIDE) for i in range(3)])
    noise = (
        np.random.RandomState(0).standard_normal(pictures.shape) * np.array([5, 20, 60])[:, None, None, None]
    )
    return pictures, (pictures + noise).clip(0, 255).astype(np.uint8)


def test_psnr_is_its_formula(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    for i in range(3):
        wanted = 10 * math.log10(255**2 / np.mean((a[i].astype(float) - b[i]) ** 2))
        assert psnr(a, b)[i] == pytest.approx(wanted)
    assert psnr(np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8))[0] == 0
    assert psnr(a, a).tolist() == [100.0] * 3  # not infinite, so that means stay numbers


def test_ssim_is_its_formula(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Window by window, as Wang et al. write it."""
    a, b = pair
    place = np.arange(-5, 6)
    window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for c in range(3):
        for y in range(5, SIDE - 5):
            for x in range(5, SIDE - 5):
                u, v = (p[0, y - 5 : y + 6, x - 5 : x + 6, c].astype(float) for p in (a, b))
                mu, mv = (window * u).sum(), (window * v).sum()
                vu, vv = (window * (u - mu) ** 2).sum(), (window * (v - mv) ** 2).sum()
                both = (window * (u - mu) * (v - mv)).sum()
                c1, c2 = 2.55**2, 7.65**2
                found.append((2 * mu * mv + c1) * (2 * both + c2) / ((mu**2 + mv**2 + c1) * (vu + vv + c2)))
    assert ssim(a, b)[0] == pytest.approx(np.mean(found), rel=1e-9)


def test_ssim_falls_with_the_noise(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    found = ssim(a, b)
    assert 1 > found[0] > found[1] > found[2] > 0
    np.testing.assert_allclose(ssim(a, a), 1, rtol=1e-12)
    flat = np.full((1, SIDE, SIDE, 3), 9, np.uint8)
    assert ssim(flat, flat)[0] == pytest.approx(1)


def test_bits_are_the_loss_of_training() -> None:
    config = GPTConfig(
        text_vocab_size=30, codebook_size=16, text_len=4, image_len=9, n_layer=2, n_head=2, n_embd=16
    )
    torch.manual_seed(0)
    model = GPT(config).requires_grad_(False).eval()
    text = torch.randint(16, 46, (5, 4))
    codes = torch.randint(0, 16, (5, 9))
    bits = bits_per_code(model, text, codes)
    assert bits.shape == (5,)
    nats = float(loss_sum(model, text, codes)) / codes.numel()
    assert float(bits.mean()) * math.log(2) == pytest.approx(nats, rel=1e-6)
    torch.testing.assert_close(bits_per_code(model, text[3:4], codes[3:4])[0], bits[3])


def test_a_model_that_knows_nothing_needs_all_bits() -> None:
    config = GPTConfig(
        text_vocab_size=30, codebook_size=64, text_len=4, image_len=9, n_layer=1, n_head=1, n_embd=8
    )
    model = GPT(config).eval()
    torch.nn.init.zeros_(model.head.weight)
    bits = bits_per_code(model, torch.full((2, 4), 70), torch.zeros(2, 9, dtype=torch.long))
    torch.testing.assert_close(bits, torch.full((2,), 6.0))
