"""Fixtures that several folders share. None starts Ray: those that do are in tests/jobs/conftest.py."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from painter_core.sample.pictures import sample_row
from tests.support.fake_store import store  # noqa: F401  a fixture
from tests.support.jobs import ROWS, SMALL_VQGAN, sample_cell, write_vqgan

# on a machine with a GPU, heads, jobs and this process compute as in CI; tests marked `gpu` ask for it
GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

# whoever starts the tests in the background may have SIGINT ignored, and processes inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's cache of models, in a directory of the test's own; no zoo."""
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PAINTER_ZOO", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch with one thread, as in a worker: sums keep their order, and tiny tensors wait for nobody."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_vqgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a VQGAN with random weights: 16 x 16 pixels, 16 codes out of 64."""
    return write_vqgan(tmp_path_factory.mktemp("models") / "vqgan", SMALL_VQGAN)


@pytest.fixture(scope="session")
def write_pairs() -> Callable[[Path, int], Path]:
    """Writes a pairs TSV of n rows; its few distinct pictures are drawn once."""
    cells = [sample_cell(i) for i in range(40)]

    def write(path: Path, rows: int) -> Path:
        lines = (
            f"r{i}\t{sample_row(5, i % 40, split='train').text}{i}\t{cells[i % 40]}\n" for i in range(rows)
        )
        path.write_text("".join(lines), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory, write_pairs) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tsv", ROWS)
