"""jobs/train.py as users run it: killed, taken up again, with other workers."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROWS, TINY_GPT_FLAGS, Jobs

BATCH = 32
STEPS = 2 * ROWS // BATCH
FLAGS = (
    *TINY_GPT_FLAGS, "--learning-rate", "1e-3", "--precision", "fp32", "--epoch-num", 2, "--logging-steps", 1,
    "--save-checkpoint-steps", 3,
)  # fmt: skip


def losses(directory: Path) -> dict[int, float]:
    """Training loss by step."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["train_loss"] for line in lines if "train_loss" in line}


def kill_after_checkpoint(jobs: Jobs, directory: Path, *flags: object, **environment: str) -> int:
    """Starts training, kills the driver once a checkpoint is there, and returns the checkpoint's step."""
    process = jobs.start("train", *flags, **environment)
    deadline = time.monotonic() + 120
    while not (found := sorted((directory / "checkpoints").glob("step-*"))):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return int(found[0].name.removeprefix("step-"))


@pytest.fixture(scope="module")
def undisturbed(jobs: Jobs, codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "model"
    jobs.run(
        "train", "--tables", f"{codes},{codes}", "--checkpoint-dir", out, "--micro-batch-size", BATCH, *FLAGS
    )
    return out


def test_training_learns_and_writes_what_it_promises(undisturbed: Path) -> None:
    found = losses(undisturbed)
    assert list(found) == list(range(1, STEPS + 1))
    assert found[STEPS] < found[1]
    for name in ("best", "last"):
        assert {"config.json", "gpt.safetensors", "vqgan.safetensors", "vocab.txt", "README.md"} <= {
            p.name for p in (undisturbed / name).iterdir()
        }
    assert list((undisturbed / "tensorboard").iterdir())
    assert json.loads((undisturbed / "summary.json").read_text())["exit_code"] == 0


def test_killed_training_continues_with_equal_losses(
    jobs: Jobs, codes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    flags = ("--tables", f"{codes},{codes}", "--checkpoint-dir", out, "--micro-batch-size", BATCH, *FLAGS)
    step = kill_after_checkpoint(jobs, out, *flags)
    assert step < STEPS
    jobs.run("train", *flags)
    assert losses(out) == losses(undisturbed)
    before = (out / "last" / "gpt.safetensors").read_bytes()
    assert before == (undisturbed / "last" / "gpt.safetensors").read_bytes()
    assert "already complete" in jobs.run("train", *flags)
    assert "learning_rate: was 0.001, is 0.002" in jobs.run(
        "train", *flags, "--learning-rate", "2e-3", code=4
    )


def test_two_workers_then_one_see_every_sample_once(
    jobs: Jobs, codes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out, first, second = tmp_path / "model", tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    tables = ("--tables", f"{codes},{codes}", "--checkpoint-dir", out, *FLAGS)
    faults = {"PAINTER_ENABLE_FAULTS": "1"}
    step = kill_after_checkpoint(
        jobs,
        out,
        *tables,
        "--micro-batch-size",
        BATCH // 2,
        "--num-workers",
        2,
        **faults,
        PAINTER_TRACE=str(first),
    )
    flags = (*tables, "--micro-batch-size", BATCH // 2, "--num-workers", 1)
    jobs.run("train", *flags, **faults, PAINTER_TRACE=str(second))
    seen: dict[int, Counter[int]] = {0: Counter(), 1: Counter()}
    resumed = min(e["step"] for e in events(second))
    assert step <= resumed - 1 < STEPS, "the run went on from a checkpoint"
    for event in events(first) + events(second):
        if (event["step"] < resumed) == (event in events(first)):
            seen[event["epoch"]].update(event["rows"])
    once = Counter(range(ROWS))
    assert seen == {0: once, 1: once}
    # the same global batches as with one worker all along: losses differ by rounding only
    assert list(losses(out).values()) == pytest.approx(list(losses(undisturbed).values()), rel=1e-4)


def events(trace: Path) -> list[dict]:
    """Training steps that a run's workers took."""
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    return [line for line in lines if line["name"] == "train_step"]


def test_pairs_table_names_the_command_to_run_first(jobs: Jobs, pairs: Path, tmp_path: Path) -> None:
    printed = jobs.run("train", "--tables", pairs, "--checkpoint-dir", tmp_path / "m", *FLAGS, code=2)
    assert f"jobs/precompute_codes.py --tables {pairs} --outputs" in printed
    assert not (tmp_path / "m").exists()


def test_unknown_flag_names_the_nearest(jobs: Jobs, codes: Path, tmp_path: Path) -> None:
    printed = jobs.run(
        "train", "--tables", codes, "--checkpoint-dir", tmp_path / "m", "--learning-rat", "1", code=2
    )
    assert "--learning-rate" in printed
