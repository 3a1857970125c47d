"""Sampling the codes of whole pictures: cached, in static steps, guided; what damage does."""

import numpy as np
import pytest
import torch
from torch import Tensor

from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.painting.sampling import (
    SamplingConfig,
    draw_codes,
    row_uniforms,
    sample_codes,
)
from painter_core.painting.static_sampling import BUCKET, StaticSampler
from tests.golden.formula import fill
from tests.support.jobs import compiles

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
    sampler = StaticSampler(cached, config, 2, compiled=False)
    with pytest.raises(RuntimeError, match="not finite"):
        sampler.sample(text, uniforms) if static else sample_codes(cached, text, uniforms, config)


LONG = GPTConfig(
    text_vocab_size=40, codebook_size=32, text_len=4, image_len=81, n_layer=2, n_head=2, n_embd=16
)
GUIDED = SamplingConfig(top_k=10, guidance_scale=3.0)


def formula_gpt(config: GPTConfig, dtype: torch.dtype = torch.float32, *, pack: bool = True) -> CachedGPT:
    """Formula weights, for sampling."""
    model = GPT(config).eval()
    model.load_state_dict(
        {k: torch.from_numpy(fill(k, tuple(t.shape))) for k, t in model.state_dict().items()}
    )
    return CachedGPT(model, dtype, pack=pack)


def long_inputs(rows: int, salt: int) -> tuple[Tensor, Tensor]:
    """Text ids and uniforms for LONG."""
    text = torch.from_numpy(np.random.RandomState(salt).randint(32, 72, (rows, LONG.text_len)))
    uniforms = np.stack([row_uniforms(salt, str(i), 0, LONG.image_len) for i in range(rows)])
    return text, torch.from_numpy(uniforms)


@pytest.mark.parametrize("config", [SamplingConfig(top_k=1), SamplingConfig(top_k=10), GUIDED])
def test_static_steps_draw_the_same(config: SamplingConfig) -> None:
    assert LONG.block_size > 2 * BUCKET
    sampler = StaticSampler(formula_gpt(LONG), config, 3, compiled=False)
    plain = formula_gpt(LONG)
    for salt in (1, 2):  # the second batch finds what the first one left in the cache
        text, uniforms = long_inputs(3, salt)
        expected = sample_codes(plain, text, uniforms, config)
        assert torch.equal(sampler.sample(text, uniforms), expected)
        assert len(expected.unique()) > 5


@compiles
@pytest.mark.slow
def test_compiled_static_steps_draw_the_same() -> None:
    text, uniforms = long_inputs(2, 5)
    config = SamplingConfig(top_k=10)
    sampler = StaticSampler(formula_gpt(LONG, pack=False), config, 2, compiled=True)
    expected = sample_codes(formula_gpt(LONG), text, uniforms, config)
    assert torch.equal(sampler.sample(text, uniforms), expected)


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@torch.inference_mode()
def test_packed_weights_compute_the_same(dtype: torch.dtype, off: float) -> None:
    text, code = long_inputs(5, 6)[0], torch.arange(5)
    packed, plain = formula_gpt(LONG, dtype), formula_gpt(LONG, dtype, pack=False)
    for a, b in ((packed.prefill(text), plain.prefill(text)), (packed.step(code, 4), plain.step(code, 4))):
        assert a.dtype == b.dtype == dtype
        torch.testing.assert_close(a, b, atol=off, rtol=off)


def test_the_cache_follows_the_number_of_rows() -> None:
    text, uniforms = long_inputs(4, 3)
    model = formula_gpt(LONG)
    whole = sample_codes(model, text, uniforms, SamplingConfig())
    halves = [sample_codes(model, text[i : i + 2], uniforms[i : i + 2], SamplingConfig()) for i in (0, 2)]
    assert torch.equal(torch.cat(halves), whole)


def test_bfloat16_stays_near_float32() -> None:
    model = GPT(LONG).eval()
    model.load_state_dict(
        {k: torch.from_numpy(fill(k, tuple(t.shape))) for k, t in model.state_dict().items()}
    )
    text = long_inputs(4, 4)[0]
    with torch.inference_mode():
        exact = CachedGPT(model, torch.float32).prefill(text)
        near = CachedGPT(model, torch.bfloat16).prefill(text)
        with torch.autocast("cpu", torch.bfloat16):
            trained = model(text)[:, 0]
    assert near.dtype == torch.bfloat16
    assert (near - exact).norm() < 0.02 * exact.norm()
    torch.testing.assert_close(near, trained, atol=0.05, rtol=0.02)  # what training computed
