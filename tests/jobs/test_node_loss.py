"""Nodes that die, vanish or join while a table job runs: the bytes of an undisturbed run on one node.

The nodes are all on this machine (tests/support/nodes.py): one is ended with all its processes, as by SIGKILL
from outside, or stopped without closing a connection, as when its network is gone.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from painter_core.runs.run import Run
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.run import make_table
from tests.support import nodes
from tests.support.jobs import ROOT, table_bytes
from tests.support.local_run import run_here
from tests.support.painting import write_painter, write_prompts

pytestmark = pytest.mark.slow

ROWS = 512  # 32 units
SIMPLE = ("-m", "tests.support.simple_job")


@pytest.mark.parametrize(
    ("actions", "seconds", "said"),
    [
        ("kill@4", 2.0, "is lost"),
        ("kill@11", 2.0, "is lost"),
        ("freeze@4", 1.0, "is lost"),
        ("add@1", 2.0, "joined; there are 4 nodes"),
    ],
)
def test_nodes_come_and_go(actions: str, seconds: float, said: str, tmp_path: Path) -> None:
    table, out = tmp_path / "in.tsv", tmp_path / "out"
    table.write_text("".join(f"{i}\t文 {i}\n" for i in range(ROWS)), encoding="utf-8")
    command = [*SIMPLE, "--tables", table, "--outputs", out, "--seconds", seconds]
    printed = nodes.start(2, out, actions, command)
    assert said in printed
    run_here(table, tmp_path / "alone")
    assert table_bytes(out) == table_bytes(tmp_path / "alone")


@pytest.mark.parametrize("actions", ["kill@4", "kill@11"])
@pytest.mark.parametrize("job", ["precompute_codes", "generate"])
def test_a_node_is_lost_while_models_work(job: str, actions: str, tmp_path: Path) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    if job == "generate":
        table = write_prompts(tmp_path / "prompts.tsv", 800)
        flags = ["--tables", table, "--checkpoint-dir", write_painter(tmp_path / "model")]
    else:
        table = tmp_path / "pairs.parquet"
        with Run({}) as run:
            make_table(MakeTableConfig(sample=800, outputs=str(table)), run)
        flags = ["--tables", table]
    command = [f"jobs/{job}.py", *flags, "--micro-batch-size", 16]
    nodes.start(2, out, actions, [*command, "--outputs", out])
    subprocess.run([sys.executable, *map(str, command), "--outputs", alone], cwd=ROOT, check=True)
    assert table_bytes(out) == table_bytes(alone)
