"""The contract of the command line: exit codes, summary.json, dry runs, signals (T25, cases 80-83, 102)."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.jobs import JOB_TIMEOUT_S, ROOT, TINY_GPT_FLAGS, Jobs, table_bytes
from tests.support.local_run import contents, training_lines

VQGAN_FLAGS = (
    "--image-size", 32, "--ch", 32, "--ch-mult", 1, 1, 2, "--num-res-blocks", 1, "--z-channels", 8,
    "--embed-dim", 8, "--codebook-size", 64, "--micro-batch-size", 4,
)  # fmt: skip


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text())


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.tsv"
    path.write_text("".join(f"p{i}\t红色的{i}号杯子\n" for i in range(20)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "job", ["precompute_codes", "generate", "evaluate", "train", "train pairs", "train_vqgan"]
)
def test_a_dry_run_tries_and_writes_nothing(
    job: str,
    jobs: Jobs,
    pairs: Path,
    codes: Path,
    model: Path,
    tiny_vqgan: Path,
    prompts: Path,
    tmp_path: Path,
) -> None:
    flags = {
        "precompute_codes": ("--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", tmp_path / "o.new" / "o"),
        "generate": ("--tables", prompts, "--checkpoint-dir", model, "--outputs", tmp_path / "o.tsv"),
        "evaluate": (
            "--tables", pairs, "--outputs", tmp_path / "o", "--attributes", "--input-schema",
            "idx:str:1,text:str:1,imgbase64:str:1", "--second-sequence", "imgbase64",
        ),
        "train": ("--tables", codes, "--checkpoint-dir", tmp_path / "o", *TINY_GPT_FLAGS),
        "train pairs": (
            "--tables", pairs, "--codes-dir", tmp_path / "c", "--vqgan", tiny_vqgan, "--checkpoint-dir",
            tmp_path / "o", *TINY_GPT_FLAGS,
        ),
        "train_vqgan": ("--tables", pairs, "--outputs", tmp_path / "o", *VQGAN_FLAGS),
    }[job]  # fmt: skip
    (tmp_path / "cache").mkdir()
    printed = jobs.run(job.split()[0], *flags, "--dry-run", PAINTER_CACHE=str(tmp_path / "cache"))
    assert "nothing written" in printed
    assert ("one step of one worker" if "train" in job else "rows/s") in printed
    assert ("s with 2 workers as fast" in printed) == (
        job in ("precompute_codes", "generate", "evaluate", "train pairs")
    )
    assert contents(tmp_path) == {}
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_preflight_ends_with_2_and_leaves_nothing(
    jobs: Jobs, pairs: Path, tiny_vqgan: Path, codes: Path, tmp_path: Path
) -> None:
    table = ("--tables", pairs, "--vqgan", tiny_vqgan, "--outputs")
    assert "the cluster has 0 GPUs" in jobs.run(
        "precompute_codes", *table, tmp_path / "o", "--gpus-per-actor", 1, code=2
    )
    assert "room for" in jobs.run("precompute_codes", *table, tmp_path / "o", "--num-actors", 99, code=2)
    assert "cannot be written" in jobs.run("precompute_codes", *table, "/proc/o", code=2)
    assert "0 GPUs" in jobs.run(
        "train", "--tables", codes, "--checkpoint-dir", tmp_path / "o", "--use-gpu", "yes", code=2
    )
    assert "fewer than one global batch" in jobs.run(
        "train_vqgan", "--tables", pairs, "--outputs", tmp_path / "o", *VQGAN_FLAGS[:-1], 999, code=2
    )
    assert not list(tmp_path.iterdir())


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Until a file is there."""
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while not list(path.glob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_a_table_with_130(
    number: signal.Signals, jobs: Jobs, pairs: Path, tiny_vqgan: Path, codes: Path, tmp_path: Path
) -> None:
    flags = ("--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", tmp_path / "codes")
    process = jobs.start("precompute_codes", *flags)
    wait_for(tmp_path, "codes/_run/vqgan/vqgan.safetensors", process)
    os.kill(process.pid, number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    found = summary(tmp_path / "codes")
    assert found["exit_code"] == 130
    assert found["next"] == "submit the same command again"
    assert [p.name for p in tmp_path.iterdir()] == ["codes"], "the lock is given back"
    jobs.run("precompute_codes", *flags)
    assert summary(tmp_path / "codes")["exit_code"] == 0
    assert table_bytes(tmp_path / "codes") == table_bytes(codes)


def test_signals_end_training_with_130_and_it_goes_on(jobs: Jobs, codes: Path, tmp_path: Path) -> None:
    flags = (
        "--tables", codes, "--checkpoint-dir", tmp_path / "model", *TINY_GPT_FLAGS, "--epoch-num", 40,
        "--micro-batch-size", 32, "--save-checkpoint-steps", 2, "--logging-steps", 1,
    )  # fmt: skip
    reached = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        process = jobs.start("train", *flags)
        while newest(tmp_path / "model") <= reached:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        os.kill(process.pid, number)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130, printed
        assert summary(tmp_path / "model")["exit_code"] == 130
        assert not (tmp_path / "model" / "_SUCCESS").exists()
        assert [p.name for p in tmp_path.iterdir()] == ["model"]
        steps = [line["step"] for line in training_lines(tmp_path / "model")]
        assert steps == list(range(1, len(steps) + 1)), "the second run goes on where the first one ended"
        assert len(steps) > reached
        reached = newest(tmp_path / "model")


def newest(directory: Path) -> int:
    """Step of the newest checkpoint; 0 if there is none."""
    names = [path.name for path in (directory / "checkpoints").glob("step-*")]
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def test_submitted_jobs_leave_their_code_in_the_summary(
    jobs: Jobs, pairs: Path, tiny_vqgan: Path, tmp_path: Path
) -> None:
    lines = pairs.read_text(encoding="utf-8").splitlines()[:16]
    (tmp_path / "bad.tsv").write_text("\n".join([*lines, "x\tcaption\t!!"]) + "\n", encoding="utf-8")
    flags = ("--tables", tmp_path / "bad.tsv", "--vqgan", tiny_vqgan, "--outputs", tmp_path / "codes")
    printed = submit(jobs, "precompute_codes", *flags, code=1)
    assert "(exit code 3)" in printed
    assert summary(tmp_path / "codes")["exit_code"] == 3
    assert "--max-reject-fraction" in summary(tmp_path / "codes")["next"]
    printed = submit(jobs, "precompute_codes", *flags, "--resize", "antialias", code=1)
    assert "(exit code 4)" in printed
    assert "resize" in printed


def test_a_stopped_job_leaves_130(jobs: Jobs, codes: Path, tmp_path: Path) -> None:
    flags = (
        "--tables", codes, "--checkpoint-dir", tmp_path / "model", *TINY_GPT_FLAGS, "--epoch-num", 200,
        "--micro-batch-size", 32, "--save-checkpoint-steps", 2,
    )  # fmt: skip
    printed = submit(jobs, "train", *flags, options=("--no-wait",), code=0)
    (job,) = set(re.findall(r"raysubmit_\w+", printed))
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while not list(tmp_path.glob("model/checkpoints/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    environment = {k: v for k, v in jobs.environment.items() if k != "RAY_ADDRESS"}
    subprocess.run(["ray", "job", "stop", job], env=environment, check=True, capture_output=True, timeout=60)
    assert summary(tmp_path / "model")["exit_code"] == 130
    assert not (tmp_path / "model" / "_SUCCESS").exists()


def submit(jobs: Jobs, name: str, *flags: object, code: int, options: tuple[str, ...] = ()) -> str:
    """What `ray job submit` printed; fails unless it ends with `code`."""
    environment = {k: v for k, v in jobs.environment.items() if k != "RAY_ADDRESS"}
    command = ["ray", "job", "submit", "--working-dir", ".", *options, "--", "python", f"jobs/{name}.py"]
    done = subprocess.run(
        [*command, *map(str, flags)], env=environment, cwd=ROOT, text=True, capture_output=True,
        timeout=JOB_TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
