"""What a driver finds out about other nodes: files that they do not see, other versions (T10)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from painter_core.runs.address import check_address
from tests.support import nodes
from tests.support.jobs import Jobs
from tests.support.local_run import write_input

TWO_NODES = """
import os, sys, ray
from ray.cluster_utils import Cluster
from painter_core.runs import nodes

here, elsewhere = sys.argv[1:]
os.chdir(here)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
nodes.check_nodes("--outputs", here + "/out", [here + "/a.tsv", "s3://bucket/in.tsv", "bundled", ""])
os.chdir(elsewhere)  # /proc/self/cwd is now another directory than the workers'
for output, inputs in (("/proc/self/cwd/out", []), (here + "/out", ["/proc/self/cwd/in.tsv"])):
    try:
        nodes.check_nodes("--outputs", output, inputs)
    except ValueError as error:
        print(error)
nodes.versions = lambda: {"python": "3.11", "torch": "1.0"}  # of this process, not of the workers
try:
    nodes.check_nodes("--outputs", here + "/out", [])
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_two_nodes(tmp_path: Path) -> None:
    for directory, name in (("nodes", "a.tsv"), ("elsewhere", "in.tsv")):
        (tmp_path / directory).mkdir()
        write_input(tmp_path / directory / name)
    done = subprocess.run(
        [sys.executable, "-c", TWO_NODES, tmp_path / "nodes", tmp_path / "elsewhere"],
        env=nodes.of_own_ray(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.strip().splitlines()[-3:]
    assert first.startswith("--outputs /proc/self/cwd/out: node ")
    assert second.startswith("/proc/self/cwd/in.tsv: node ")
    assert "does not see it; on several nodes a local path must be on storage" in second
    assert re.match(r"node \S+ has torch 2\S+, this driver has 1\.0: the same rows would not give", third)
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == ["in.tsv"], "no probe is left"


@pytest.mark.slow
def test_a_job_on_nodes_without_the_share(tmp_path: Path) -> None:
    """Code 2 before any work; for the nodes, whose processes stand elsewhere, the output is another place."""
    table = write_input(tmp_path / "in.tsv")
    (tmp_path / "elsewhere").mkdir()
    script = "import os, sys; os.chdir(sys.argv.pop(1)); from tests.support.simple_job import main; main()"
    job = ["-c", script, tmp_path / "elsewhere", "--tables", table, "--outputs", "/proc/self/cwd/out"]
    code, printed = nodes.run(2, tmp_path / "elsewhere" / "out", "add@0", job)
    assert code == 2, printed
    assert re.search(r"--outputs /proc/self/cwd/out: node \S+ does not see it", printed), printed
    assert list((tmp_path / "elsewhere").iterdir()) == [], "nothing is left"


def test_the_address_of_a_head_is_taken(jobs: Jobs) -> None:
    check_address(jobs.environment["RAY_ADDRESS"])
