"""The benchmarks of whole jobs run; how fast is for `make bench` to say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.jobs import ROOT, Jobs


def run(*flags: str, **options: object) -> None:
    """The command in its short mode."""
    command = [sys.executable, "-m", "benchmarks", "--short", *flags]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_jobs_run(jobs: Jobs, tmp_path: Path) -> None:
    run("--parts", "job", "--json", str(tmp_path / "table.json"), env=jobs.environment)
    found = json.loads((tmp_path / "table.json").read_text())["rows"]
    pairs = ["decoding in one process", "under Ray", *["bare loop", "under Ray"] * 3]
    assert [row["variant"] for row in found] == pairs
    run("--parts", "default-generate", "--json", str(tmp_path / "table.json"), env=jobs.environment)
    found = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["variant"] for row in found] == ["EasyNLP", "whole job", "without its start"]
    assert all(row["ratio"] > 0 for row in found)


@pytest.mark.slow
def test_growth_runs(jobs: Jobs, tmp_path: Path) -> None:
    sizes = ("--rows", "100,2000", "--units", "40")
    flags = (*sizes, "--json", tmp_path / "table.json", "--svg", tmp_path / "plot.svg")
    command = [sys.executable, "-m", "benchmarks.growth", *map(str, flags)]
    subprocess.run(command, cwd=ROOT, env=jobs.environment, timeout=300, check=True)
    found = json.loads((tmp_path / "table.json").read_text())
    assert [(size["rows"], size["units"]) for size in found["jobs"]] == [(100, 7), (2000, 32)]
    assert [plan["units"] for plan in found["plans"]] == [40]
    assert (tmp_path / "plot.svg").read_text().count("<circle") == 4
