"""Nodes that die, vanish or join while a table job runs: the bytes of an undisturbed run on one node.

The nodes are all on this machine (tests/support/nodes.py): one is ended with all its processes, as by SIGKILL
from outside, or stopped without closing a connection, as when its network is gone.
"""

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from painter_core.runs.run import Run
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.run import make_table
from tests.support import nodes
from tests.support.jobs import ROOT, TINY_VQGAN, table_bytes
from tests.support.local_run import run_here
from tests.support.painting import write_painter, write_prompts

pytestmark = pytest.mark.slow

ROWS = 512  # 32 units
BOUND_S = 150
SIMPLE = ("-m", "tests.support.simple_job")


def seconds_between(before: str, after: tuple[str, ...], printed: str) -> float:
    """Seconds from the line that says one thing to the next that says one of others."""
    lines = [line for line in printed.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    begin = next(i for i, line in enumerate(lines) if before in line)
    end = next(line for line in lines[begin:] if any(words in line for words in after))
    took = [datetime.strptime(line[:8], "%H:%M:%S") for line in (lines[begin], end)]
    return (took[1] - took[0]).total_seconds() % 86400


@pytest.mark.parametrize(
    ("actions", "seconds", "said"),
    [
        ("kill@4", 2.0, "is lost"),
        ("kill@11", 2.0, "is lost"),
        ("freeze@4", 1.0, "is lost"),
        ("add@1", 8.0, "joined; there are 4 nodes"),
    ],
)
def test_nodes_come_and_go(actions: str, seconds: float, said: str, tmp_path: Path) -> None:
    table, out = tmp_path / "in.tsv", tmp_path / "out"
    table.write_text("".join(f"{i}\t文 {i}\n" for i in range(ROWS)), encoding="utf-8")
    command = [*SIMPLE, "--tables", table, "--outputs", out, "--seconds", seconds]
    trace = {"PAINTER_ENABLE_FAULTS": "1", "PAINTER_TRACE": str(tmp_path / "trace.jsonl")}
    printed = nodes.start(2, out, actions, command, **trace)
    assert said in printed
    if not actions.startswith("add"):
        assert seconds_between(actions.split("@")[0] + " at", ("is lost", "does not answer"), printed) < 60
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    at_work = {line["node"] for line in lines if line["name"] == "unit_computed"}
    assert len(at_work) == (3 if actions.startswith("add") else 2), "a node that joins gets model workers"
    run_here(table, tmp_path / "alone")
    assert table_bytes(out) == table_bytes(tmp_path / "alone")


@pytest.mark.parametrize("actions", ["kill@4", "kill@11"])
@pytest.mark.parametrize("job", ["precompute_codes", "generate"])
def test_a_node_is_lost_while_models_work(job: str, actions: str, tmp_path: Path) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    if job == "generate":
        table = write_prompts(tmp_path / "prompts.tsv", 800)
        model = write_painter(tmp_path / "model", geometry=TINY_VQGAN)
        flags = ["--tables", table, "--checkpoint-dir", model]
    else:
        table = tmp_path / "pairs.parquet"
        with Run({}) as run:
            make_table(MakeTableConfig(sample=800, outputs=str(table)), run)
        flags = ["--tables", table]
    command = [f"jobs/{job}.py", *flags, "--micro-batch-size", 16]
    nodes.start(2, out, actions, [*command, "--outputs", out])
    subprocess.run([sys.executable, *map(str, command), "--outputs", alone], cwd=ROOT, check=True)
    assert table_bytes(out) == table_bytes(alone)


def test_a_unit_that_ends_its_worker_each_time_ends_the_run(tmp_path: Path) -> None:
    """After five workers, with 1; no node is waited for."""
    table, out = tmp_path / "in.tsv", tmp_path / "out"
    table.write_text("".join(f"{i}\t文 {i}\n" for i in range(ROWS)), encoding="utf-8")
    command = [*SIMPLE, "--tables", table, "--outputs", out, "--poison", 3]
    trace = {"PAINTER_ENABLE_FAULTS": "1", "PAINTER_TRACE": str(tmp_path / "trace.jsonl")}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PAINTER_"))}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=clean | trace, cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=BOUND_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    tries = [line for line in lines if line["name"] == "unit_computed" and line["unit"] == 3]
    assert len(tries) == len({line["pid"] for line in tries}) == 5
    assert json.loads((out / "summary.json").read_text())["exit_code"] == 1
    assert not (out / "_run" / "commits" / "000003.json").exists()
