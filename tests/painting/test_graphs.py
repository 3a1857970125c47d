"""Graphs of the steps, with a recorder in place of CUDA's: what is captured when; when they are unused."""

import math
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters
from torch._inductor.utils import run_and_get_code

from painter_core.models.compiled_block import _attention, _product
from painter_core.painting.graphs import GraphsUsed, try_graphs
from painter_core.painting.sampling import SamplingConfig, sample_codes
from painter_core.painting.static_sampling import BUCKET, StaticSampler
from tests.painting.test_static_sampling import GUIDED, LONG, formula_gpt, long_inputs
from tests.support.jobs import compiles

pytestmark = pytest.mark.usefixtures("one_thread")


class Recorder:
    """Captures as CUDA does: a step is run for warming up, and its replay is the same work again."""

    def __init__(self, spoil: Callable[[], object] = lambda: None) -> None:
        self.said: list[str] = []
        self._spoil = spoil

    def __call__(self, step: Callable[[], object], before: Callable[[], object]) -> Callable[[], None]:
        number = sum(word.startswith("capture") for word in self.said)
        self.said.append(f"capture {number}")
        before()
        step()

        def replay() -> None:
            self.said.append(f"replay {number}")
            step()
            self._spoil()

        return replay


@pytest.mark.parametrize("config", [SamplingConfig(top_k=10), GUIDED])
def test_graphs_are_captured_once_and_replayed_in_order(config: SamplingConfig) -> None:
    record = Recorder()
    sampler = StaticSampler(formula_gpt(LONG), config, 3, capture=record)
    plain = formula_gpt(LONG)
    found = {}
    for salt in (1, 2, 1):  # the second batch finds what the first left, and the first is drawn again
        text, uniforms = long_inputs(3, salt)
        codes = sampler.sample(text, uniforms)
        assert torch.equal(codes, sample_codes(plain, text, uniforms, config))
        assert torch.equal(codes, found.setdefault(salt, codes))
    buckets = -(-LONG.block_size // BUCKET)
    assert record.said[:buckets] == [f"capture {i}" for i in range(buckets)]
    steps = [min(p // BUCKET, buckets - 1) for p in range(LONG.text_len, LONG.block_size - 1)]
    assert record.said[buckets:] == [f"replay {i}" for i in steps] * 3


def test_a_step_is_compared_with_the_plain_one() -> None:
    text, uniforms = long_inputs(3, 1)
    sampler = StaticSampler(formula_gpt(LONG), GUIDED, 3, capture=Recorder())
    sampler.sample(text, uniforms)
    assert sampler.distance(text) < 1e-5
    wrong = StaticSampler(formula_gpt(LONG), GUIDED, 3, capture=None)
    wrong._capture = Recorder(lambda: wrong._logits.mul_(1.1))
    wrong.sample(text, uniforms)
    assert wrong.distance(text) > 0.05


def fails() -> float:
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore of it")


def test_what_comes_of_a_try() -> None:
    assert try_graphs("auto", lambda: 1e-4, "fp32") == GraphsUsed(used=True)
    assert try_graphs("off", fails, "fp32") == GraphsUsed(used=False)
    off = try_graphs("auto", lambda: 0.02, "fp32")
    assert (off.used, "differ by 0.02" in off.reason) == (False, True)
    assert try_graphs("auto", lambda: 0.02, "bf16").used
    assert not try_graphs("auto", lambda: float("inf"), "bf16").used
    failed = try_graphs("auto", fails, "bf16")
    assert failed.to_json() == {
        "graphs": False,
        "reason": "RuntimeError: CUDA error: operation not permitted when stream is capturing",
    }
    with pytest.raises(RuntimeError, match="--graphs on: RuntimeError: CUDA error: operation"):
        try_graphs("on", fails, "bf16")


def test_the_cache_ends_at_a_multiple_of_eight_positions() -> None:
    model = formula_gpt(LONG)
    model.prefill(long_inputs(2, 1)[0])
    assert model.num_positions == LONG.block_size
    assert len({cache.data_ptr() for cache in model._cache}) == LONG.n_layer, "a tensor for each layer"


@pytest.mark.long
@compiles
def test_two_graphs_serve_all_layers_one_a_bucket_attends_and_none_copies_the_cache() -> None:
    text, uniforms = long_inputs(2, 5)
    config = SamplingConfig(top_k=10)
    torch._dynamo.reset()
    before = counters["stats"]["unique_graphs"]
    sampler = StaticSampler(formula_gpt(LONG, compiled=True), config, 2)
    codes, sources = run_and_get_code(sampler.sample, text, uniforms)
    assert torch.equal(codes, sample_codes(formula_gpt(LONG), text, uniforms, config))
    buckets = -(-LONG.block_size // BUCKET)
    assert counters["stats"]["unique_graphs"] - before == len(sources) == 2 + buckets
    layer_keys = 2 * LONG.block_size * LONG.n_embd
    sizes = [
        math.prod(int(side) for side in shape.split(",") if side.strip())
        for source in sources
        for shape in re.findall(r"empty_strided\w*\(\(([\d, ]+)\)", source)
    ]
    assert sizes
    assert max(sizes) < layer_keys


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_of_one_row_are_those_of_many(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 1, 96, generator=generator)
    weight, bias = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((40, 96), (40,)))
    many, one = _product(x, weight, bias), _product(x[1:2], weight, bias)
    assert (one.shape, one.dtype) == ((1, 1, 40), dtype)
    exact = F.linear(x[1:2].to(dtype).double(), weight.double(), bias.double())
    # both round once at the end, to eight bits in bfloat16
    for found in (many[1:2], one):
        assert torch.allclose(
            found.double(), exact, rtol=2**-8 if dtype == torch.bfloat16 else 1e-5, atol=1e-5
        )


def test_attention_of_one_query_is_that_of_many() -> None:
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 3, 1, 8, generator=generator)
    keys, values = (torch.randn(2, 3, 40, 8, generator=generator)[:, :, :32] for _ in range(2))
    mask = torch.zeros(1, 32).masked_fill(torch.arange(32) > 20, -math.inf)
    found = _attention(q, keys, values, mask)
    assert torch.allclose(found, F.scaled_dot_product_attention(q, keys, values, mask), atol=1e-6)
    seen = _attention(q, keys[:, :, :21], values[:, :, :21], mask[:, :21])
    assert torch.allclose(found, seen, atol=1e-6), "masked positions count"
