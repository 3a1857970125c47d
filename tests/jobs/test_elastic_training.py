"""jobs/train.py on a Ray of its own: a node that is lost, and a store in the place of a shared disk."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.codes_table import make_codes
from tests.support.jobs import ROOT
from tests.support.nodes import of_own_ray
from tests.support.training import curve_of, files_of

FLAGS = (
    "--model", "tiny", "--n-layer", "2", "--n-head", "2", "--n-embd", "16", "--text-len", "8",
    "--learning-rate", "1e-3", "--precision", "fp32", "--logging-steps", "1", "--epoch-num", "4",
    "--save-checkpoint-steps", "2",
)  # fmt: skip
STEPS = 20  # four epochs of 160 rows in batches of 32

BEGINS = """
import json, os, pathlib, signal, subprocess, sys, time
from ray.cluster_utils import Cluster

out, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
"""
# a head of one CPU, and a node of one CPU that is killed once a checkpoint is there
LOSES_A_NODE = (
    BEGINS
    + """
node = cluster.add_node(num_cpus=1)
job = subprocess.Popen(command, env=os.environ | {"RAY_ADDRESS": cluster.address})
while not list(out.glob("checkpoints/step-*")):
    assert job.poll() is None
    time.sleep(0.02)
cluster.remove_node(node, allow_graceful=False)
code = job.wait()
cluster.shutdown()
sys.exit(code)
"""
)
# two nodes, each with room for two workers; prints on how many of them there are workers
HAS_ROOM = """
import os, subprocess, sys, time, ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
cluster.add_node(num_cpus=2)
job = subprocess.Popen(sys.argv[1:], env=os.environ | {"RAY_ADDRESS": cluster.address})
ray.init(address=cluster.address, log_to_driver=False)
while not (found := [g for g in placement_group_table().values() if g["state"] == "CREATED"]):
    assert job.poll() is None
    time.sleep(0.1)
print("nodes with workers:", len(set(found[0]["bundles_to_node_id"].values())))
ray.shutdown()
code = job.wait()
cluster.shutdown()
sys.exit(code)
"""
# a node that joins once a checkpoint is there; ended once both train
GETS_A_NODE = (
    BEGINS
    + """
job = subprocess.Popen(command, env=os.environ | {"RAY_ADDRESS": cluster.address})
while not list(out.glob("checkpoints/step-*")):
    assert job.poll() is None
    time.sleep(0.02)
cluster.add_node(num_cpus=1)
while '"num_workers": 2' not in (out / "metrics.jsonl").read_text():
    assert job.poll() is None
    time.sleep(0.1)
job.send_signal(signal.SIGINT)
code = job.wait()
cluster.shutdown()
sys.exit(code - 130)
"""
)


@pytest.fixture(scope="module")
def own_codes(pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_codes(pairs, tiny_vqgan, tmp_path_factory.mktemp("codes") / "codes")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that know no cluster."""
    return of_own_ray(PAINTER_CACHE=str(tmp_path / "cache"))


def command(codes: Path, out: object, *flags: object) -> list[str]:
    """The job's command line."""
    places = ("--tables", codes, "--checkpoint-dir", out)
    return [str(word) for word in (sys.executable, ROOT / "jobs/train.py", *places, *FLAGS, *flags)]


def run(words: list[str], environment: dict[str, str]) -> str:
    """What a process printed; fails unless it ended with 0."""
    done = subprocess.run(
        words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_goes_on_with_the_workers_that_are_left(
    own_codes: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    run(command(own_codes, tmp_path / "alone", "--micro-batch-size", "32"), environment)
    out = tmp_path / "model"
    flags = ("--micro-batch-size", "16", "--num-workers", "1,2", "--resize-interval", "3600")
    words = command(own_codes, out, *flags)
    printed = run([sys.executable, "-c", LOSES_A_NODE, str(out), *words], environment)
    history = json.loads((out / "summary.json").read_text())["world_sizes"]
    assert [number for _, number in history] == [2, 1]
    begun = history[1][0]
    assert 2 <= begun < STEPS
    assert f"steps 1-{begun}: 2 workers; {begun + 1}-{STEPS}: 1 worker" in printed
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    numbers = [line["num_workers"] for line in lines if "train_loss" in line]
    assert numbers == [2] * begun + [1] * (STEPS - begun), "every step once"
    for ours, theirs in zip(curve_of(str(out)), curve_of(str(tmp_path / "alone")), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
def test_a_run_takes_up_a_node_that_joins(
    own_codes: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "model"
    flags = ("--micro-batch-size", "16", "--num-workers", "1,2", "--resize-interval", "5")
    # many steps: it goes on until the node was taken up
    longer = ("--epoch-num", "20000", "--save-checkpoint-steps", "50", "--logging-steps", "10")
    words = command(own_codes, out, *flags, *longer)
    run([sys.executable, "-c", GETS_A_NODE, str(out), *words], environment)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [(line["step"], line["num_workers"]) for line in lines if "train_loss" in line]
    assert [step for step, _ in steps] == list(range(10, 10 * len(steps) + 1, 10)), "every step once"
    numbers = [number for _, number in steps]
    assert numbers == sorted(numbers)
    assert set(numbers) == {1, 2}
    before = max(step for step, number in steps if number == 1)
    assert before % 50 == 0, "from a checkpoint on"
    assert json.loads((out / "_run" / "plan.json").read_text())["global_batch_size"] == 32


@pytest.fixture
def store_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Processes for which s3:// is a directory behind the face of an object store."""
    package = tmp_path / "site" / "disk_store-0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: disk-store\nVersion: 0\n")
    (package / "entry_points.txt").write_text("[fsspec.specs]\ns3 = tests.support.disk_store:DiskStore\n")
    paths = f"{tmp_path / 'site'}:{environment['PYTHONPATH']}"
    return environment | {"PYTHONPATH": paths, "DISK_STORE": str(tmp_path / "store")}


@pytest.mark.slow
def test_workers_train_into_a_store(
    own_codes: Path, store_environment: dict[str, str], tmp_path: Path
) -> None:
    """Killed once, and taken up with an empty cache; what stands there is what a run on a disk leaves."""
    flags = ("--micro-batch-size", "32")
    run(command(own_codes, tmp_path / "local", *flags), store_environment)
    words, place = command(own_codes, "s3://bucket/model", *flags), tmp_path / "store" / "bucket" / "model"
    process = subprocess.Popen(words, env=store_environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not list(place.glob("checkpoints/step-*/checkpoint.json")):
        assert process.poll() is None, process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (place / "_SUCCESS").exists()
    printed = run(words, store_environment | {"PAINTER_CACHE": str(tmp_path / "other")})
    assert f"step {STEPS} of {STEPS}" in printed
    found, expected = files_of(str(place)), files_of(str(tmp_path / "local"))
    models = {name for name in expected if name.startswith(("best/", "last/"))}
    assert {name: found[name] for name in models} == {name: expected[name] for name in models}
    assert curve_of(str(place)) == curve_of(str(tmp_path / "local"))
    assert "already complete" in run(words, store_environment)


@pytest.mark.slow
def test_workers_on_cpus_take_a_node_each(
    own_codes: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    words = command(own_codes, tmp_path / "model", "--micro-batch-size", "16", "--num-workers", "2")
    assert "nodes with workers: 2" in run([sys.executable, "-c", HAS_ROOM, *words], environment)
