"""One pipeline called from several threads paints what it paints for one."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painter_core.files.cache import build_once
from painter_core.model_files.open import open_model
from painter_core.painting.painter import Painter, Request
from painter_core.painting.pipeline import Pipeline, pipeline
from painter_core.painting.sampling import SamplingConfig
from painter_core.text.tokenizer import builtin_tokenizer

THREADS, CALLS = 4, 3
WORDS = "丁七万丈三上下不"


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """work(0), work(1), ... in threads that begin together."""
    gate = threading.Barrier(THREADS)

    def begin(number: int) -> object:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def captions(thread: int, call: int) -> list[str]:
    """One to three captions, so that calls differ in their number of rows too."""
    return [WORDS[thread] + WORDS[(thread + call + i) % len(WORDS)] for i in range(1 + (thread + call) % 3)]


def make_painter(model: str, precision: str) -> Painter:
    sampling = SamplingConfig(top_k=10)
    return Painter(
        open_model(model),
        device=torch.device("cpu"),
        precision=precision,
        sampling=sampling,
        seed=3,
        micro_batch_size=1,
    )


@pytest.mark.long
@pytest.mark.parametrize("micro_batch_size", [1, 2])
def test_threads_paint_what_one_paints(model: str, micro_batch_size: int) -> None:
    paint = pipeline(model, device="cpu", micro_batch_size=micro_batch_size)
    alone = [[paint(captions(thread, call)) for call in range(CALLS)] for thread in range(THREADS)]
    together = at_once(lambda thread: [paint(captions(thread, call)) for call in range(CALLS)])
    assert together == alone
    assert len({r["gen_imgbase64"] for calls in alone for call in calls for r in call}) > THREADS


def test_two_paintings_of_one_painter_may_alternate(model: str) -> None:
    """paint() is a generator: nobody has to finish one before the next is begun."""
    painter = make_painter(model, "fp32")
    requests = [[Request(idx=f"{name}{i}", text=WORDS[i] + name) for i in range(3)] for name in "三上"]
    alone = [list(painter.paint(r)) for r in requests]
    mixed = zip(*(painter.paint(r) for r in requests), strict=True)
    for position, pair in enumerate(mixed):
        for which, (codes, pictures) in enumerate(pair):
            np.testing.assert_array_equal(codes, alone[which][position][0])
            np.testing.assert_array_equal(pictures, alone[which][position][1])


def test_two_pipelines_do_not_meet(model: str) -> None:
    paints: list[Pipeline] = [pipeline(model, device="cpu", seed=seed) for seed in range(THREADS)]
    alone = [paint(WORDS) for paint in paints]
    assert at_once(lambda thread: paints[thread](WORDS)) == alone


def test_painters_of_two_precisions_take_turns(model: str) -> None:
    """On GPUs tf32 is allowed or forbidden to the whole process."""
    painters = {precision: make_painter(model, precision) for precision in ("fp32", "tf32")}
    for precision in ("fp32", "tf32", "fp32"):
        list(painters[precision].paint([Request(idx="0", text="丁")]))
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")


def test_a_tokenizer_in_threads() -> None:
    tokenizer = builtin_tokenizer()
    texts = [[f"{WORDS[(t + i) % 8]}{i} t恤{t}" for i in range(200)] for t in range(THREADS)]
    alone = [tokenizer.encode(lines) for lines in texts]
    assert at_once(lambda thread: [tokenizer.encode(texts[thread]) for _ in range(5)]) == [
        [ids] * 5 for ids in alone
    ]


def test_a_cache_entry_is_built_whole_by_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path))

    def build(directory: Path) -> None:
        for name in "ab":
            (directory / name).write_bytes(name.encode() * 2**20)

    for name in (f"entry-{i}" for i in range(5)):
        found = at_once(lambda _, name=name: [p.stat().st_size for p in build_once(name, build).iterdir()])
        assert found == [[2**20] * 2] * THREADS
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] != ".") == [f"entry-{i}" for i in range(5)]
