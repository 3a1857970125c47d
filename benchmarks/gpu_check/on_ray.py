"""The gate of the three jobs: on Ray, on the GPU, one of the trainings killed half way."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import torch

from benchmarks.gpu_check.gates import Failed, check

ROWS, PROMPTS = 512, 600
STEPS, KILLED_AT = 20, 11


def on_ray(device: torch.device) -> str:
    """Codes of a table; a training, and one whose worker is killed; pictures with graphs and without."""
    with tempfile.TemporaryDirectory(prefix="painter-") as folder:
        here = Path(folder)
        _run("make_table", "--outputs", f"{here}/pairs.parquet", "--sample", str(ROWS))
        _run("make_table", "--outputs", f"{here}/prompts.tsv", "--sample", str(PROMPTS), "--prompts")
        _run("precompute_codes", "--tables", f"{here}/pairs.parquet", "--outputs", f"{here}/codes")
        flags = (
            "--tables",
            f"{here}/codes",
            "--model",
            "tiny",
            "--micro-batch-size",
            "16",
            "--epoch-num",
            str(STEPS * 16 / ROWS),
        )
        flags += ("--learning-rate", "1e-3", "--save-checkpoint-steps", "10", "--logging-steps", "5")
        fault = {
            "PAINTER_ENABLE_FAULTS": "1",
            "PAINTER_FAULT": f"train_step:kill:{KILLED_AT}",
            "PAINTER_FAULT_DIR": folder,
        }
        whole = _start("train", *flags, "--checkpoint-dir", f"{here}/whole")
        killed = _start("train", *flags, "--checkpoint-dir", f"{here}/killed", env=fault)
        for training in (whole, killed):
            _end(training)
        a, b = _losses(here / "whole"), _losses(here / "killed")
        check((here / "train_step").exists(), "no worker was killed")
        check(a.keys() == b.keys() and max(a) == STEPS, f"steps {sorted(a)} and, killed, {sorted(b)}")
        off = max(abs(a[step] - b[step]) / a[step] for step in a)
        check(off < 0.01, f"a killed training's losses differ by {off:.2%}")
        ways = ("auto", "on", "off") if device.type == "cuda" else ("auto",)
        paint = ("generate", "--tables", f"{here}/prompts.tsv", "--checkpoint-dir", f"{here}/whole")
        jobs = [_start(*paint, "--graphs", way, "--outputs", f"{here}/{way}.parquet") for way in ways]
        for job in jobs:
            _end(job)
        made = {way: pq.read_table(here / f"{way}.parquet").num_rows for way in ways}
        check(set(made.values()) == {PROMPTS}, f"rows of pictures: {made}")
        said = f"{ROWS} rows encoded; losses of a killed training within {off:.3%}"
        return f"{said}; {PROMPTS} pictures with graphs {'/'.join(ways)}"


def _start(job: str, *flags: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, f"jobs/{job}.py", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, text=True, env=os.environ | (env or {}), **pipes)


def _end(job: "subprocess.Popen[str]") -> None:
    said, _ = job.communicate()
    if job.returncode:
        lines = said.strip().splitlines()
        raise Failed(f"{job.args[1]}: exit code {job.returncode}: {' | '.join(lines[-3:])}")


def _run(job: str, *flags: str) -> None:
    _end(_start(job, *flags))


def _losses(root: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["train_loss"] for line in lines if "train_loss" in line}
