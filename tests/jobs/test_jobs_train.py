"""jobs/train.py as users run it: killed, taken up again, with other workers (T16)."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from painter_core.runs.run import Run
from painter_core.stages.train.codes import PairsConfig, TrainJobConfig, make_tables
from painter_core.training.gpt_config import TrainConfig
from tests.support.jobs import ROWS, TINY_GPT_FLAGS, Jobs, table_bytes
from tests.support.local_run import ALONE, faults, training_lines

BATCH = 32
STEPS = 2 * ROWS // BATCH
FLAGS = (
    *TINY_GPT_FLAGS, "--learning-rate", "1e-3", "--precision", "fp32", "--epoch-num", 2, "--logging-steps", 2,
    "--save-checkpoint-steps", 3,
)  # fmt: skip


def curve(directory: Path) -> dict[int, tuple[float, float]]:
    """Training loss and learning rate by step."""
    return {line["step"]: (line["train_loss"], line["lr"]) for line in training_lines(directory)}


def validations(directory: Path) -> dict[int, float]:
    """Validation loss by step."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["valid_loss"] for line in lines if "valid_loss" in line}


def losses(directory: Path) -> dict[int, float]:
    """Training loss by step."""
    return {step: loss for step, (loss, _) in curve(directory).items()}


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
    assert list(found) == list(range(2, STEPS + 1, 2))
    assert found[STEPS] < found[2]
    for name in ("best", "last"):
        assert {"config.json", "gpt.safetensors", "vqgan.safetensors", "vocab.txt", "README.md"} <= {
            p.name for p in (undisturbed / name).iterdir()
        }
    assert list((undisturbed / "tensorboard").iterdir())
    assert json.loads((undisturbed / "summary.json").read_text())["exit_code"] == 0


def test_killed_training_continues_with_equal_losses(
    jobs: Jobs, codes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """T16: the driver dies; losses and learning rates after it are the unbroken run's, with previews too."""
    out, prompts = tmp_path / "model", tmp_path / "prompts.tsv"
    prompts.write_text("a\t红色的杯子\nb\t蓝色背包\n", encoding="utf-8")
    flags = ("--tables", f"{codes},{codes}", "--checkpoint-dir", out, "--micro-batch-size", BATCH, *FLAGS)
    flags += ("--preview-table", prompts, "--preview-steps", 4)
    step = kill_after_checkpoint(jobs, out, *flags)
    assert step < STEPS
    jobs.run("train", *flags)
    assert curve(out) == curve(undisturbed), "saving does not divide logging here"
    assert validations(out) == validations(undisturbed)
    assert sorted(p.name for p in (out / "previews").iterdir()) == [
        "captions.txt", "step-00000004.png", "step-00000008.png", "step-00000010.png",
    ]  # fmt: skip
    assert not (undisturbed / "previews").exists()
    before = (out / "last" / "gpt.safetensors").read_bytes()
    assert before == (undisturbed / "last" / "gpt.safetensors").read_bytes()
    assert "already complete" in jobs.run("train", *flags)
    assert "learning_rate: was 0.001, is 0.002" in jobs.run(
        "train", *flags, "--learning-rate", "2e-3", code=4
    )


@pytest.mark.slow
def test_a_killed_worker_continues_with_equal_losses(
    jobs: Jobs, codes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """T16: a worker dies in step 8; another one goes on from the checkpoint of step 6, in the same run."""
    out, trace = tmp_path / "model", tmp_path / "trace.jsonl"
    flags = ("--tables", f"{codes},{codes}", "--checkpoint-dir", out, "--micro-batch-size", BATCH, *FLAGS)
    jobs.run("train", *flags, **faults(tmp_path / "faults", "train_forward:kill:8"), PAINTER_TRACE=str(trace))
    taken = [event["step"] for event in events(trace)]
    assert taken == [*range(1, 8), *range(7, STEPS + 1)]
    assert curve(out) == curve(undisturbed)
    found, expected = (d / "last" / "gpt.safetensors" for d in (out, undisturbed))
    assert found.read_bytes() == expected.read_bytes()


def test_two_workers_then_one_see_every_sample_once(
    jobs: Jobs, codes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """T16: the samples that were seen."""
    out, first, second = tmp_path / "model", tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    tables = ("--tables", f"{codes},{codes}", "--checkpoint-dir", out, *FLAGS)
    tracing = {"PAINTER_ENABLE_FAULTS": "1"}
    step = kill_after_checkpoint(
        jobs,
        out,
        *tables,
        "--micro-batch-size",
        BATCH // 2,
        "--num-workers",
        2,
        **tracing,
        PAINTER_TRACE=str(first),
    )
    flags = (*tables, "--micro-batch-size", BATCH // 2, "--num-workers", 1)
    jobs.run("train", *flags, **tracing, PAINTER_TRACE=str(second))
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
    assert f"jobs/precompute_codes.py --tables {pairs} --outputs CODES --vqgan bundled" in printed
    assert "or give --codes-dir DIR" in printed
    assert not (tmp_path / "m").exists()


def test_pairs_are_encoded_first_with_codes_dir(
    jobs: Jobs, pairs: Path, codes: Path, tiny_vqgan: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    flags = (
        "--tables", f"{pairs},{codes}", "--codes-dir", tmp_path / "codes", "--vqgan", tiny_vqgan,
        "--checkpoint-dir", out, "--micro-batch-size", BATCH, *FLAGS,
    )  # fmt: skip
    jobs.run("train", *flags)
    assert table_bytes(tmp_path / "codes" / "train") == table_bytes(codes)
    assert [p.name for p in (tmp_path / "codes").iterdir()] == ["train"], "the other table held codes already"
    for directory in (tmp_path / "codes" / "train", out):
        assert json.loads((directory / "summary.json").read_text())["exit_code"] == 0
    assert losses(out) == losses(undisturbed)
    assert jobs.run("train", *flags).count("already complete") == 2


def test_too_many_rejects_end_before_training(jobs: Jobs, pairs: Path, tmp_path: Path) -> None:
    lines = pairs.read_text(encoding="utf-8").splitlines()[:16]
    (tmp_path / "pairs.tsv").write_text("\n".join([*lines, "x\tcaption\t!!"]) + "\n", encoding="utf-8")
    flags = ("--tables", tmp_path / "pairs.tsv", "--codes-dir", tmp_path / "codes", *TINY_GPT_FLAGS)
    printed = jobs.run("train", *flags, "--checkpoint-dir", tmp_path / "model", code=3)
    assert "1 of 17 rows were rejected (1 b64_invalid), more than --max-reject-fraction 0.01" in printed
    summary = json.loads((tmp_path / "codes" / "train" / "summary.json").read_text())
    assert (summary["exit_code"], summary["rows_out"]) == (3, 16)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("train", "pairs_flags", "message"),
    [
        ({"expect": "image_size=256"}, {}, "image_size is 64, not 256"),
        ({"sequence_length": 288}, {}, "--sequence-length 288: the model has 96 positions"),
        ({"tables": "TABLE/none.tsv"}, {}, "none.tsv: no such file"),
        ({"tables": "TABLE/a.tsv,TABLE/a.tsv,TABLE/a.tsv"}, {}, "got 3 tables"),
        ({}, {"codes_dir": None}, "or give --codes-dir DIR"),
        ({}, {"codes_dir": "a,b"}, "--codes-dir a,b: a comma"),
        ({}, {"vqgan": "none"}, "none: no such file or directory"),
    ],
)
def test_mistakes_show_before_pairs_are_encoded(
    train: dict, pairs_flags: dict, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.tsv").write_text("1\t2\t3\n")
    settings = {"tables": "TABLE/a.tsv", "checkpoint_dir": str(tmp_path / "model")} | train
    settings["tables"] = settings["tables"].replace("TABLE", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        make_tables(
            TrainJobConfig(
                train=TrainConfig(**settings),
                pairs=PairsConfig(**({"codes_dir": str(tmp_path / "codes")} | pairs_flags)),
            ),
            Run({}),
            ALONE,
        )
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv"]


def test_unknown_flag_names_the_nearest(jobs: Jobs, codes: Path, tmp_path: Path) -> None:
    printed = jobs.run(
        "train", "--tables", codes, "--checkpoint-dir", tmp_path / "m", "--learning-rat", "1", code=2
    )
    assert "--learning-rate" in printed
