"""Graphs read and write the cache that they were captured with: no work between two batches leaves them with
one that the model no longer has.

CUDA's graphs are replaced by steps that see the cache of their capture, as CUDA's do.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from painter_core.model_files.open import open_model
from painter_core.models.cached_gpt import CachedGPT
from painter_core.painting import painter as painter_module
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig, sample_codes
from painter_core.painting.scores import OF_CODES
from painter_core.painting.static_sampling import StaticSampler
from tests.painting.test_static_sampling import LONG, formula_gpt, long_inputs
from tests.support.painting import CAPTIONS, write_painter

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, FITTING = 5, 2  # of a batch, and of a piece: 2, 2 and 1
SAMPLING = SamplingConfig(top_k=5)


class Captured:
    """A graph for every step, on a GPU that has memory for so many rows."""

    made = 0

    def __init__(self, gpt: CachedGPT, fitting: int) -> None:
        self._gpt, self._fitting = gpt, fitting

    def __call__(self, step: Callable[[], object], before: Callable[[], object]) -> Callable[[], None]:
        if self._gpt._cache[0].shape[1] > self._fitting:
            raise torch.OutOfMemoryError("CUDA out of memory")
        Captured.made += 1
        before()
        step()
        then = self._gpt._cache

        def replay() -> None:
            now, self._gpt._cache = self._gpt._cache, then
            step()
            self._gpt._cache = now

        return replay


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("graphs") / "model")


def painter(directory: Path) -> Painter:
    return Painter(
        open_model(str(directory)), device=torch.device("cpu"), precision="fp32", sampling=SAMPLING, seed=1,
        micro_batch_size=ROWS,
    )  # fmt: skip


def by_graphs(directory: Path, monkeypatch: pytest.MonkeyPatch, fitting: int) -> Painter:
    made = painter(directory)
    made._streams = SimpleNamespace(sampling=made.gpt, for_sampling=nullcontext)
    monkeypatch.setattr(painter_module, "Capturer", lambda gpt: Captured(gpt, fitting))
    return made


def requests(name: str, start: np.ndarray | None = None) -> list[Request]:
    return [Request(idx=f"{name}{i}", text=name + text, start=start) for i, text in enumerate(CAPTIONS)]


def test_scores_of_the_last_piece_leave_the_graphs_their_cache(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, graphs = painter(directory), by_graphs(directory, monkeypatch, FITTING)
    captured = []
    for name in "三上下":
        found, expected = (p.draw(requests(name), OF_CODES) for p in (graphs, plain))
        captured.append(Captured.made)
        np.testing.assert_array_equal(found.codes, expected.codes)
        for score in OF_CODES:
            np.testing.assert_allclose(found.scores[score], expected.scores[score], rtol=1e-4, atol=1e-4)
    assert graphs._sampling_pieces.rows == FITTING
    assert captured[0] == captured[-1], "captured again"


def test_graphs_are_captured_again_after_work_of_another_number_of_rows(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, graphs = painter(directory), by_graphs(directory, monkeypatch, ROWS)
    given = plain.draw(requests("三")).codes[0].astype(np.int64)
    fewer = graphs.variant(micro_batch_size=3)
    for name in "上下":
        np.testing.assert_array_equal(graphs.draw(requests(name)).codes, plain.draw(requests(name)).codes)
        fewer.draw(requests(name, start=given), OF_CODES)  # nothing is sampled


def test_a_sampler_refuses_a_cache_that_is_not_its_own() -> None:
    gpt, inputs = formula_gpt(LONG), long_inputs(3, 1)
    sampler = StaticSampler(gpt, SAMPLING, 3, capture=Captured(gpt, 3))
    sampler.sample(*inputs)
    assert sampler.holds
    sample_codes(gpt, *long_inputs(2, 1), SAMPLING)
    assert not sampler.holds
    with pytest.raises(AssertionError, match="where the cache was before"):
        sampler.sample(*inputs)
