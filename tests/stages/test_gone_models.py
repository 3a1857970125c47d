"""A finished training whose models were removed is not complete: they are made of its checkpoints again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from painter_core.model_files.sums import write_sums
from painter_core.stages.train import loop
from painter_core.stages.train.plan import TrainPlan
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.run_flags import TrainingRunFlags
from painter_core.training.worker import Worker
from tests.support.codes_table import make_codes
from tests.support.local_run import contents
from tests.support.training import planned

ONE = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")


@pytest.fixture
def finished(write_pairs: Callable, tiny_vqgan: Path, tmp_path: Path, cache: Path) -> Path:
    """A training of two steps, without Ray."""
    make_codes(write_pairs(tmp_path / "pairs.tsv", 8), tiny_vqgan, tmp_path / "codes")
    out = tmp_path / "model"
    planned = plan(out)
    assert planned is not None
    loop.train_as(ONE, planned)
    (out / "_SUCCESS").touch()
    assert plan(out) is None, "already complete"
    return out


def plan(out: Path) -> TrainPlan | None:
    codes = out.with_name("codes")
    config = TrainConfig(
        tables=f"{codes},{codes}", checkpoint_dir=str(out), precision="fp32", micro_batch_size=4,
        model="tiny", n_layer=1, n_head=1, n_embd=16, text_len=8, learning_rate=1e-3,
        run=TrainingRunFlags(save_checkpoint_steps=1, logging_steps=1),
    )  # fmt: skip
    return planned(config)


@pytest.mark.parametrize("gone", [["last"], ["best"], ["best", "last"], ["best/config.json"]])
def test_they_are_made_again(gone: list[str], finished: Path) -> None:
    before = {name: contents(finished / name) for name in ("best", "last")}
    for name in gone:
        path = finished / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    planned = plan(finished)
    assert planned is not None
    loop.train_as(ONE, planned)
    assert {name: contents(finished / name) for name in ("best", "last")} == before
    assert plan(finished) is None


def test_what_cannot_be_made_again_is_said(finished: Path) -> None:
    """The checkpoint of best/ is no longer kept."""
    for checkpoint in (finished / "checkpoints").iterdir():
        file = checkpoint / "training" / "state.pt"
        state = torch.load(file, weights_only=True)
        torch.save(state | {"is_best": False}, file)
        write_sums(checkpoint, step=state["step"])
    shutil.rmtree(finished / "best")
    planned = plan(finished)
    assert planned is not None
    with pytest.raises(ValueError, match=r"model/best: it is gone, .* or copy .*/last there"):
        loop.train_as(ONE, planned)
    shutil.copytree(finished / "last", finished / "best")
    assert plan(finished) is None
