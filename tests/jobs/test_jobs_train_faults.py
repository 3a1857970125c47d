"""jobs/train.py under faults: NaN (T18), a worker killed while it saves (T17)."""

import json
from pathlib import Path

import pytest
import torch

from painter_core.model_files.open import open_model
from painter_core.training.checkpoints import latest_checkpoint
from tests.support.jobs import TINY_GPT_FLAGS, Jobs, strange_lines
from tests.support.local_run import faults

SAVE_OFTEN = (
    *TINY_GPT_FLAGS, "--learning-rate", "1e-3", "--precision", "fp32", "--micro-batch-size", "32",
    "--save-checkpoint-steps", 2, "--logging-steps", 1,
)  # fmt: skip


def test_nan_ends_training_before_the_update(jobs: Jobs, codes: Path, tmp_path: Path) -> None:
    """T18."""
    out = tmp_path / "model"
    flags = ("--tables", codes, "--checkpoint-dir", out, *SAVE_OFTEN)
    printed = jobs.run("train", *flags, code=1, **faults(tmp_path / "nan", "train_forward:nan:4"))
    assert "at step 4: stopped before the update" in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["exit_code"] == 1
    assert "loss nan" in summary["message"]
    assert "at step 4" in summary["message"]
    newest = latest_checkpoint(out)
    assert newest is not None
    assert newest.name == "step-00000002"
    assert all(torch.isfinite(t).all() for t in open_model(str(newest)).load_gpt().state_dict().values())
    assert not (out / "_SUCCESS").exists()


def test_a_full_disk_ends_training_at_once(jobs: Jobs, codes: Path, tmp_path: Path) -> None:
    """The disk is full for one write: another attempt, which Ray would make, would come through."""
    out, trace = tmp_path / "model", tmp_path / "trace.jsonl"
    flags = ("--tables", codes, "--checkpoint-dir", out, *SAVE_OFTEN)
    full = faults(tmp_path / "full", "checkpoint_save:ENOSPC:1") | {"PAINTER_TRACE": str(trace)}
    printed = jobs.run("train", *flags, code=1, **full)
    assert "No space left on device" in printed
    assert "Make room and submit again" in printed
    assert strange_lines(printed) == [], "no traceback, and nothing of Ray's own affairs"
    assert "worker 0: device cpu" in printed, "what workers log reaches the driver"
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [e["step"] for e in events if e["name"] == "train_step"] == [1, 2]
    assert not list((out / "checkpoints").glob("*")), "nothing half written stays"


@pytest.mark.slow
def test_a_worker_killed_while_saving_changes_nothing(
    jobs: Jobs, codes: Path, model: Path, tmp_path: Path
) -> None:
    """T17."""
    out = tmp_path / "model"
    flags = ("--tables", codes, "--checkpoint-dir", out, *SAVE_OFTEN)
    jobs.run("train", *flags, **faults(tmp_path / "kill", "checkpoint_save:kill:2"))
    assert (tmp_path / "kill" / "checkpoint_save").stat().st_size > 2, "another worker saved"
    assert (out / "last" / "gpt.safetensors").read_bytes() == (
        model / "last" / "gpt.safetensors"
    ).read_bytes()
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "train_loss" in line] == [1, 2, 3, 4, 5]
