"""Sampling the codes of whole pictures: cached, in static steps, guided; what damage does."""

import numpy as np
import pytest
import torch

from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.painting.sampling import (
    SamplingConfig,
    draw_codes,
    row_uniforms,
    sample_codes,
)
from painter_core.painting.static_sampling import StaticSampler
from tests.golden.formula import fill

TINY = GPTConfig(
    text_vocab_size=40, codebook_size=32, text_len=4, image_len=9, n_layer=2, n_head=2, n_embd=16
)


def tiny() -> GPT:
    """A GPT with formula weights."""
    model = GPT(TINY).eval()
    model.load_state_dict(
        {k: torch.from_numpy(fill(k, tuple(t.shape))) for k, t in model.state_dict().items()}
    )
    return model


def test_sample_codes_of_whole_pictures() -> None:
    model = tiny()
    text = torch.from_numpy(np.random.RandomState(0).randint(32, 72, (5, 4)))
    uniforms = torch.from_numpy(np.stack([row_uniforms(1, str(i), 0, 9) for i in range(5)]))
    config = SamplingConfig(top_k=10)
    cached = CachedGPT(model, torch.float32)
    codes = sample_codes(cached, text, uniforms, config)
    assert (codes.shape, codes.dtype) == ((5, 9), torch.int64)
    assert codes.min() >= 0
    assert codes.max() < TINY.codebook_size
    # the same as drawing from the uncached logits of the codes so far
    with torch.inference_mode():
        for step in range(9):
            logits = model(torch.cat((text, codes[:, :step]), 1))[:, -1]
            assert torch.equal(draw_codes(logits, uniforms[:, step], config), codes[:, step])
    # and of the same rows in another place of the batch
    assert torch.equal(sample_codes(cached, text.flip(0), uniforms.flip(0), config), codes.flip(0))
    greedy = sample_codes(cached, text, uniforms, SamplingConfig(top_k=1))
    assert torch.equal(greedy, sample_codes(cached, text, 1 - 2**-24 - uniforms, SamplingConfig(top_k=1)))


def test_guidance_draws_away_from_the_empty_caption() -> None:
    model, scale = tiny(), 3.0
    text = torch.from_numpy(np.random.RandomState(2).randint(33, 72, (5, 4)))
    empty = torch.full_like(text, TINY.codebook_size)
    uniforms = torch.from_numpy(np.stack([row_uniforms(1, str(i), 0, 9) for i in range(5)]))
    config = SamplingConfig(top_k=10, guidance_scale=scale)
    cached = CachedGPT(model, torch.float32)
    codes = sample_codes(cached, text, uniforms, config)
    with torch.inference_mode():
        for step in range(9):
            told, untold = (model(torch.cat((t, codes[:, :step]), 1))[:, -1] for t in (text, empty))
            guided = untold + scale * (told - untold)
            assert torch.equal(draw_codes(guided, uniforms[:, step], config), codes[:, step])
    assert not torch.equal(codes, sample_codes(cached, text, uniforms, SamplingConfig(top_k=10)))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize(
    ("value", "guidance_scale"),
    # guidance multiplies: both rows of logits are finite, what they are mixed to is not
    [(float("nan"), 1.0), (float("inf"), 1.0), (1e36, 1.0), (1e30, 100.0)],
)
def test_damaged_weights_are_an_error(value: float, guidance_scale: float, static: bool) -> None:
    model = tiny()
    with torch.no_grad():
        model.head.weight[3] = value
    text, uniforms = torch.full((2, 4), 40), torch.zeros(2, 9)
    config = SamplingConfig(guidance_scale=guidance_scale, temperature=1e-6)
    cached = CachedGPT(model, torch.float32)
    sampler = StaticSampler(cached, config, 2)
    with pytest.raises(RuntimeError, match="not finite"):
        sampler.sample(text, uniforms) if static else sample_codes(cached, text, uniforms, config)
