"""Questions to nodes, also slow, busy or dead ones: who is waited for is said, and nobody for ever."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.jobs import ROOT
from tests.support.nodes import of_own_ray

FREEZES = """
import logging, os, signal, time
import ray
from ray.cluster_utils import Cluster
from painter_core.compute.devices import painting_precision
from painter_core.runs import gpus, nodes, questions
from process_table import descendants, read_processes

class Holder:
    def is_there(self):
        return True

logging.basicConfig(level=logging.INFO, format="%(message)s")
often = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 4}
head = {"num_cpus": 0, "include_dashboard": False, "_system_config": often}
cluster = Cluster(initialize_head=True, head_node_args=head)
cluster.add_node(num_cpus=1, num_gpus=1, node_ip_address="127.0.0.2")
other = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3")
ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)

by_address = {n["NodeManagerAddress"]: i for i, n in questions.alive_nodes().items()}
for name, having in (("FIRST", ["127.0.0.2"]), ("BOTH", ["127.0.0.2", "127.0.0.3"]), ("HEAD", ["127.0.0.1"])):
    ids = [by_address[address] for address in having]
    has_it = lambda ids=ids: ray.get_runtime_context().get_node_id() in ids
    print(name, painting_precision("auto", gpu=False, amx=lambda: nodes.all_have_amx(has_it)),
          sorted(nodes.nodes_without_amx(has_it)))

print("FREE", gpus.ask_gpus(lambda: 7))
gpus.TIMEOUT_S = 2.0
holder = ray.remote(num_cpus=0, num_gpus=1)(Holder).remote()
ray.get(holder.is_there.remote())
print("BUSY", gpus.ask_gpus(lambda: 7))

raylet = other.all_processes["raylet"][0].process.pid
family = {raylet, *descendants(raylet, read_processes())}
for pid in family:
    os.kill(pid, signal.SIGSTOP)
try:
    questions.PATIENCE_S = 1.0
    frozen = {i: n for i, n in questions.alive_nodes().items() if n["NodeManagerAddress"] == "127.0.0.3"}
    try:
        questions.ask_all(bool, frozen)
    except ValueError as error:
        print("SILENT", error)
    questions.PATIENCE_S, questions.NOTICE_S, questions.LOOK_S = 60.0, 0.5, 0.2
    began = time.monotonic()
    nodes.check_nodes("--outputs", "s3://bucket/out", [])
    print("GONE", time.monotonic() - began < 50)
finally:
    for pid in family:
        os.kill(pid, signal.SIGKILL)
ray.shutdown()
cluster.shutdown()
"""

# the first process that a node starts for the job waits, as if packages were installed
INSTALLS = """
import logging, sys, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from painter_core.runs import gpus, nodes, questions

installed = Path(sys.argv[1])

def install():
    if not installed.exists():
        time.sleep(12)
        installed.touch()

logging.basicConfig(level=logging.INFO, format="%(message)s")
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=1, num_gpus=1, node_ip_address="127.0.0.2")
quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
ray.init(address=cluster.address, runtime_env={"worker_process_setup_hook": install}, **quiet)
gpus.TIMEOUT_S, questions.NOTICE_S, questions.LOOK_S = 11.0, 3.0, 0.5
print("INSTALLED", gpus.ask_gpus(lambda: 7))
ray.shutdown()
ray.init(address=cluster.address, runtime_env={"conda": "there-is-no-such-environment"}, **quiet)
try:
    nodes.check_nodes("--outputs", "s3://bucket/out", [])
except ValueError as error:
    print("FAILED", error)
ray.shutdown()
cluster.shutdown()
"""


def run(script: str, *arguments: object) -> str:
    """What a program printed that has a cluster of its own."""
    environment = of_own_ray(ROOT / "cluster", CUDA_VISIBLE_DEVICES="99")  # Ray counts the names
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], env=environment, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_nodes_that_answer_are_busy_or_dead() -> None:
    said = run(FREEZES)
    # the head, which has no CPUs, has no say
    assert "FIRST fp32 ['node 127.0.0.3']" in said
    assert "--precision auto: fp32, since node 127.0.0.3 has no AMX, by which CPUs are fast in bf16" in said
    assert "BOTH bf16 []" in said
    assert "HEAD fp32 ['node 127.0.0.2', 'node 127.0.0.3']" in said
    assert said.count("--precision auto") == 1, "where no CPU has it there is nothing to say"
    assert "FREE {'node 127.0.0.2': 7}" in said
    assert "BUSY {}" in said
    assert "node 127.0.0.2: its GPUs are busy (no answer from them in 2 s), and were not looked at" in said
    assert "SILENT node 127.0.0.3: no answer in 1 s, though Ray calls it alive: look at it" in said
    assert re.search(r"waiting up to 60 s for an answer of node 127\.0\.0\.3: packages", said)
    assert "node 127.0.0.3 has left the cluster, and is passed over" in said
    assert "GONE True" in said


@pytest.mark.slow
def test_nodes_that_install_packages_first(tmp_path: Path) -> None:
    said = run(INSTALLS, tmp_path / "installed")
    assert "waiting up to 900 s for an answer of node 127.0.0.2: packages are being installed there" in said
    assert "INSTALLED {'node 127.0.0.2': 7}" in said, "its GPU is not called busy meanwhile"
    assert "FAILED node 127.0.0.2: the job's runtime environment cannot be made there: " in said
