"""Whole runs with noise, averaged weights and patience: broken off and taken up, and with other workers."""

import json
from pathlib import Path

import pytest
import torch

from painter_core.model_files.open import open_model
from painter_core.training.checkpoints import latest_checkpoint
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.regularisation import RegularisationFlags
from tests.support.local_run import faults
from tests.support.training import curve_of, files_of, gpt_config, train_here
from tests.training.test_sharding import close_to, train_ranks, weights_close

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

ALL = RegularisationFlags(pkeep=0.8, dropout=0.1, label_smoothing=0.1, ema_decay=0.9, patience=3)
STEPS = 10  # two epochs of the 160 rows


def config_for(codes: Path, out: Path, flags: RegularisationFlags = ALL, **more: object) -> TrainConfig:
    settings = {"epoch_num": 2.0, "caption_dropout": 0.2} | more
    return gpt_config(f"{codes},{codes}", out, regularisation=flags, **settings)


@pytest.fixture(scope="module")
def alone(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run."""
    out = tmp_path_factory.mktemp("alone") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAINTER_CACHE", str(out.parent / "cache"))
        train_here(config_for(codes, out))
    return out


def models(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in files_of(str(root)).items() if name.startswith(("best/", "last/"))}


@pytest.mark.parametrize("step", [2, 7])
def test_a_broken_run_goes_on_to_the_same_bytes(
    step: int, codes: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in faults(tmp_path / "faults", f"train_step:EIO:{step}").items():
        monkeypatch.setenv(name, value)
    config = config_for(codes, tmp_path / "model")
    with pytest.raises(OSError, match="train_step"):
        train_here(config)
    monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "0")
    assert train_here(config)
    assert curve_of(str(tmp_path / "model")) == curve_of(str(alone))
    assert models(tmp_path / "model") == models(alone)


def test_the_average_is_what_is_saved_and_the_weights_go_on(alone: Path) -> None:
    newest = latest_checkpoint(alone)
    assert newest is not None
    state = torch.load(newest / "training" / "state.pt", weights_only=True)
    saved = open_model(str(alone / "last")).load_gpt().state_dict()
    assert saved.keys() == state["weights"].keys()
    assert all(
        not torch.equal(saved[name], value) for name, value in state["weights"].items() if "ln" not in name
    )


@pytest.mark.parametrize("parallel", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_workers_see_the_same_noise(parallel: str, codes: Path, alone: Path, tmp_path: Path) -> None:
    config = config_for(codes, tmp_path / "model", batch=16, gradient_accumulation_steps=2, parallel=parallel)
    train_ranks(config, 2, tmp_path)
    close_to(tmp_path / "model", alone, steps=STEPS)
    weights_close(tmp_path / "model", alone)


def test_a_run_stops_when_validations_are_in_vain(
    codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learning rate at which nothing is learned; killed after the last checkpoint, it stops there too."""
    flags = RegularisationFlags(patience=2)
    config = config_for(codes, tmp_path / "model", flags, learning_rate=0.9, epoch_num=6.0)
    train_here(config)
    lines = curve_of(str(tmp_path / "model"))
    validations = [(line["step"], line["valid_loss"]) for line in lines if "valid_loss" in line]
    assert len(validations) < 30 // 2, "not all steps were done"
    best = min(loss for _, loss in validations)
    assert [loss for _, loss in validations[-3:]].index(best) == 0
    outcome = json.loads((tmp_path / "model" / "_run" / "outcome.json").read_text())
    assert outcome["step"] == validations[-1][0]
    assert outcome["best_valid_loss"] == best
    assert (tmp_path / "model" / "_SUCCESS").exists()
    for name, value in faults(tmp_path / "faults", f"train_saved:EIO:{len(validations)}").items():
        monkeypatch.setenv(name, value)
    again = config_for(codes, tmp_path / "again", flags, learning_rate=0.9, epoch_num=6.0)
    with pytest.raises(OSError, match="train_saved"):
        train_here(again)
    monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "0")
    assert train_here(again)
    assert models(tmp_path / "again") == models(tmp_path / "model")
