"""--wait-for-gpus on a cluster that gets its GPU node while the job waits, and on one that gets too few."""

import logging
import subprocess
import sys

import pytest

from painter_core.runs.cluster import Cluster
from painter_core.runs.flags import ModelFlags, TableFlags
from painter_core.runs.ray_data import Resources
from painter_core.stages.evaluate.config import EvaluateConfig
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.training.run_flags import TrainingRunFlags
from painter_core.upscaling.flags import UpscaleFlags
from tests.support.jobs import ROOT
from tests.support.nodes import of_own_ray

WAITS = """
import logging, os, time
import ray
from ray.cluster_utils import Cluster
from painter_core.runs.cluster import GpuWait, start_ray, wait_for

nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
os.environ["RAY_ADDRESS"] = nodes.address

class Autoscaler(logging.Handler):
    '''Starts a node when a job waits for one.'''
    def emit(self, record):
        if record.getMessage().startswith("waiting up to") and not self.nodes:
            self.nodes.append(nodes.add_node(num_cpus=1, num_gpus=1))

scaler = Autoscaler()
scaler.nodes = []
logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[scaler, logging.StreamHandler()])
found = start_ray(GpuWait(gpus=1, seconds=60))
began = time.monotonic()
again = wait_for(found, GpuWait(gpus=2, seconds=2))
print("FOUND", found.gpus, found.cpus, again.gpus, 2 <= time.monotonic() - began < 20)
ray.shutdown()
nodes.shutdown()
"""


@pytest.mark.slow
def test_a_node_that_comes_is_taken() -> None:
    environment = of_own_ray(CUDA_VISIBLE_DEVICES="99")  # Ray counts the names
    done = subprocess.run(
        [sys.executable, "-c", WAITS], env=environment, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "waiting up to 60 s for 1 GPUs; the cluster has 0" in done.stdout
    assert "the cluster has 1 GPUs" in done.stdout
    assert "FOUND 1.0 1.0 1.0 True" in done.stdout


def test_what_is_waited_for_follows_the_flags() -> None:
    from painter_core.runs.ray_train import gpu_wait

    assert ModelFlags().gpu_wait() is None
    wait = ModelFlags(num_actors="3,8", gpus_per_actor=0.5, wait_for_gpus=60).gpu_wait()
    assert wait is not None
    assert (wait.gpus, wait.seconds) == (1.5, 60)
    assert ModelFlags(gpus_per_actor=0, wait_for_gpus=60).gpu_wait() is None
    training = gpu_wait(TrainingRunFlags(num_workers="2,4", wait_for_gpus=9))
    assert training is not None
    assert (training.gpus, training.seconds) == (2, 9)
    assert gpu_wait(TrainingRunFlags(use_gpu="no", wait_for_gpus=9)) is None


def test_evaluate_and_upscale_wait_too() -> None:
    """With models that may compute on GPUs; where there are none the flag would do nothing."""
    table = TableFlags(tables="t", outputs="o")
    waiting = {"num_actors": "2", "gpus_per_actor": 0.5, "wait_for_gpus": 60.0}
    jobs = (
        EvaluateConfig(table=table, metrics="clip", clip="c", **waiting),
        UpscaleConfig(table=table, upscaling=UpscaleFlags(upscaler="x.pth"), **waiting),
    )
    for config in jobs:
        wait = config.model_flags().gpu_wait()
        assert wait is not None
        assert (wait.gpus, wait.seconds) == (1.0, 60)
    with pytest.raises(ValueError, match=r"--wait-for-gpus 60\.0: given, but --attributes has no use for it"):
        EvaluateConfig(table=table, attributes=True, wait_for_gpus=60.0)
    with pytest.raises(ValueError, match="--wait-for-gpus: does nothing without --upscaler FILE"):
        UpscaleConfig(table=table, upscaling=UpscaleFlags(upscale=2), wait_for_gpus=60.0)
    with pytest.raises(ValueError, match="--wait-for-gpus: got -1"):
        EvaluateConfig(table=table, metrics="clip", clip="c", wait_for_gpus=-1)


def test_num_actors_bounds_the_workers_of_a_cluster_that_grows(caplog) -> None:
    """Without it nodes that join get workers, without an end; with MIN,MAX there are never more than MAX."""
    caplog.set_level(logging.INFO)
    cluster = Cluster(cpus=4, gpus=0, memory_bytes=2**36, nodes=2, can_grow=True)
    pools = {}
    for flag in (None, "2", "1,3"):
        options = Resources(cluster=cluster, flags=ModelFlags(num_actors=flag)).actors(100)
        pools[flag] = (options["compute"].min_size, options["compute"].max_size)
    assert pools == {None: (4, 100), "2": (2, 2), "1,3": (1, 3)}
    assert "4 model workers, on CPUs, and more on nodes that join" in caplog.text
