"""Compiled regions get a graph for each shape, however many there are, in every thread."""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from painter_core.models.compiled_block import _compiled, allow_graphs
from painter_core.painting.sampling import SamplingConfig, sample_codes
from painter_core.painting.static_sampling import BUCKET, StaticSampler
from tests.painting.test_static_sampling import LONG, formula_gpt, long_inputs
from tests.support.jobs import compiles

BUCKETS = 33  # of a model of 1,024 codes
FEW = 4  # graphs that torch allows here


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Graphs are made and run as they are: no compiler is needed to count them."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    _compiled.cache_clear()
    torch._dynamo.reset()
    yield
    _compiled.cache_clear()  # else others would get these
    torch._dynamo.reset()


def region(x: Tensor) -> Tensor:
    return x + 1


@compiles
@pytest.mark.usefixtures("eager")
def test_two_numbers_of_rows_have_a_graph_for_every_bucket() -> None:
    before = counters["stats"]["unique_graphs"]
    allow_graphs()
    for rows in (1, 2):
        for end in range(1, BUCKETS + 1):
            assert _compiled(region)(torch.zeros(rows, end)).shape == (rows, end)
    assert counters["stats"]["unique_graphs"] - before == 2 * BUCKETS


@compiles
@pytest.mark.usefixtures("eager")
def test_a_thread_that_samples_compiles_all_it_needs() -> None:
    """Torch keeps its limit of all graphs of a function a thread."""
    config, gpt = SamplingConfig(top_k=10), formula_gpt(LONG, compiled=True)

    def sample(rows: int) -> Tensor:
        torch._dynamo.config.accumulated_recompile_limit = FEW
        return StaticSampler(gpt, config, rows).sample(*long_inputs(rows, 5))

    assert 2 * -(-LONG.block_size // BUCKET) > FEW
    for rows in (2, 3):
        with ThreadPoolExecutor(1) as thread:
            codes = thread.submit(sample, rows).result()
        assert torch.equal(codes, sample_codes(formula_gpt(LONG), *long_inputs(rows, 5), config))
