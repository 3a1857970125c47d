"""A compiled training step: one graph for all blocks, and the plain step's losses."""

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from painter_core.models.gpt import GPT
from painter_core.training.gpt import train_step, validate
from painter_core.training.micro_batch import with_micro_batch
from painter_core.training.optimizers import make_optimizers
from painter_core.training.regions import _compiled, compile_regions, cross_entropy_sum
from tests.support.jobs import compiles
from tests.training.test_training import ALONE, TINY, config, samples

pytestmark = pytest.mark.usefixtures("one_thread")


@compiles
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_all_blocks_have_one_graph_a_batch_and_learn_what_plain_ones_learn(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    _compiled.cache_clear()
    torch._dynamo.reset()
    torch.manual_seed(0)
    plain = GPT(dataclasses.replace(TINY, n_layer=4))
    compiled = copy.deepcopy(plain)
    compile_regions(compiled)
    data, settings = samples(), config("adamw")
    losses, graphs = {}, [counters["stats"]["unique_graphs"]]
    for name, model in (("plain", plain), ("compiled", compiled)):
        optimizers, losses[name] = make_optimizers(model, settings), []
        # the shorter batch at an epoch's end, and back
        for rows in (16, 10, 16, 10):
            losses[name].append(train_step(model, optimizers, data, np.arange(rows), settings, ALONE)[0])
            graphs.append(counters["stats"]["unique_graphs"])
        losses[name].append(validate(model.eval(), data, ALONE, 16))
    assert losses["compiled"] == pytest.approx(losses["plain"], rel=1e-5)
    _compiled.cache_clear()
    first = graphs[0]
    assert [found - first for found in graphs[1:]] == [0, 0, 0, 0, 2, 4, 4, 4], (
        "a block and the cross entropy"
    )


def test_what_wraps_a_model_for_several_workers_is_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPT(TINY)
    wrapped = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = model
    asked = []
    monkeypatch.setattr("painter_core.training.regions._compiled", lambda: lambda *given: asked.append(given))
    logits, codes = torch.zeros(2, 3, 8), torch.zeros(2, 3, dtype=torch.int64)
    assert float(cross_entropy_sum(wrapped, logits, codes)) == pytest.approx(6 * np.log(8), rel=1e-6)
    model.is_compiled = True
    cross_entropy_sum(wrapped, logits, codes)
    assert len(asked) == 1


def test_a_cpu_takes_16_samples_a_pass_unless_told() -> None:
    unsaid = dataclasses.replace(config("adamw"), micro_batch_size=None)
    assert with_micro_batch(unsaid, TINY, ALONE, 16, 0).micro_batch_size == 16
    whole = dataclasses.replace(unsaid, batch_size=64)
    assert with_micro_batch(whole, TINY, ALONE, 64, 0).micro_batch_size == 16
    assert (unsaid.global_batch_size(2), whole.global_batch_size(2)) == (32, 64)
