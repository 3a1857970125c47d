"""Steps of one shape, packed weights, the cache and bfloat16: they draw what the plain loop draws."""

import numpy as np
import pytest
import torch
from torch import Tensor

from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.painting.sampling import SamplingConfig, row_uniforms, sample_codes
from painter_core.painting.static_sampling import BUCKET, StaticSampler
from tests.golden.formula import fill

pytestmark = pytest.mark.usefixtures("one_thread")

LONG = GPTConfig(
    text_vocab_size=40, codebook_size=32, text_len=4, image_len=81, n_layer=2, n_head=2, n_embd=16
)
GUIDED = SamplingConfig(top_k=10, guidance_scale=3.0)


def formula_gpt(config: GPTConfig, dtype: torch.dtype = torch.float32, **how: bool) -> CachedGPT:
    """Formula weights, for sampling."""
    model = GPT(config).eval()
    model.load_state_dict(
        {k: torch.from_numpy(fill(k, tuple(t.shape))) for k, t in model.state_dict().items()}
    )
    return CachedGPT(model, dtype, **how)


def long_inputs(rows: int, salt: int) -> tuple[Tensor, Tensor]:
    """Text ids and uniforms for LONG."""
    text = torch.from_numpy(np.random.RandomState(salt).randint(32, 72, (rows, LONG.text_len)))
    uniforms = np.stack([row_uniforms(salt, str(i), 0, LONG.image_len) for i in range(rows)])
    return text, torch.from_numpy(uniforms)


@pytest.mark.parametrize("config", [SamplingConfig(top_k=1), SamplingConfig(top_k=10), GUIDED])
def test_static_steps_draw_the_same(config: SamplingConfig) -> None:
    assert LONG.block_size > 2 * BUCKET
    sampler = StaticSampler(formula_gpt(LONG), config, 3)
    plain = formula_gpt(LONG)
    for salt in (1, 2):  # the second batch finds what the first one left in the cache
        text, uniforms = long_inputs(3, salt)
        expected = sample_codes(plain, text, uniforms, config)
        assert torch.equal(sampler.sample(text, uniforms), expected)
        assert len(expected.unique()) > 5


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
