"""Running a training loop on Ray Train: workers, restarts, progress, the end of the run.

The loop keeps its own checkpoints (painter_core.training.checkpoints) and takes up the newest one by itself,
so a worker that dies is replaced and the run goes on; Ray keeps nothing.
"""

import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from painter_core.compute.cpus import usable_cpus
from painter_core.compute.gpu import PRETENDED, gpu_problem
from painter_core.errors import Stop
from painter_core.files.storage import filesystem, is_local, join, read_json, remove, write_bytes
from painter_core.runs.cluster import Cluster, GpuWait, count_told, parse_range, wanted_workers
from painter_core.runs.training_progress import TrainingProgress
from painter_core.runs.worker_log import log_directory
from painter_core.runs.worker_process import in_worker
from painter_core.training.output import Output, write_outcome
from painter_core.training.run_flags import TrainingRunFlags
from painter_core.training.worker import Worker, shared_precision
from painter_core.training.world_sizes import told

log = logging.getLogger(__name__)

RESIZE_S = 60.0  # --resize-interval by default, as Ray's
# a worker on a new node may first have to decode a table's pictures, while the others wait in a collective;
# one that is lost is noticed without it
PATIENCE_S = 6 * 3600


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many training workers there are to be, and on what."""

    least: int
    most: int
    use_gpu: bool
    resize_interval_s: float
    """Between two looks for room for more, if there are fewer than the most."""
    unused: int = 0
    """GPUs, or nodes where CPUs train, that no worker gets."""

    @property
    def are_elastic(self) -> bool:
        """Whether their number may change in a run."""
        return self.least < self.most

    @property
    def resources(self) -> dict[str, float]:
        """What one takes of a node."""
        if self.use_gpu:
            return {"GPU": 1, "CPU": 1}
        # whole ones where Ray divides what a node has by it, to count how many workers fit
        return {"CPU": 1 if self.are_elastic else 0.75}


def gpu_wait(flags: TrainingRunFlags) -> GpuWait | None:
    """What a cluster is given time for by --wait-for-gpus; None for nothing."""
    if not flags.wait_for_gpus or flags.use_gpu == "no":
        return None
    least, _ = parse_range("--num-workers", flags.num_workers) or (1, 1)
    return GpuWait(gpus=least, seconds=flags.wait_for_gpus)


def find_workers(flags: TrainingRunFlags, cluster: Cluster) -> Workers:
    """From --num-workers and --use-gpu and what the cluster has.

    Raises:
        ValueError: the cluster has no room for them.
    """
    on_gpu = cluster.gpus > 0 if flags.use_gpu == "auto" else flags.use_gpu == "yes"
    room = int(cluster.gpus if on_gpu else cluster.cpus)
    has = f"{room} {'GPUs' if on_gpu else 'CPUs'}"
    least, most = wanted_workers("--num-workers", flags.num_workers, room, has, default=(1, 1))
    # on CPUs a worker takes those of its node
    unused = max(0, (room if on_gpu else cluster.nodes) - most)
    # the global batch is made for so many workers, and stays, however many there is room for at the start
    return Workers(
        least=least,
        most=most,
        use_gpu=on_gpu,
        unused=unused,
        resize_interval_s=RESIZE_S if flags.resize_interval is None else flags.resize_interval,
    )


def run_workers(
    loop: Callable[[dict[str, Any]], None], plan: Any, root: str, workers: Workers, *, num_steps: int
) -> dict[str, Any]:
    """Runs `loop({"plan": plan})` in every worker, to the end.

    The loop writes ROOT/metrics.jsonl, whose lines are printed here, and ROOT/_run/outcome.json at its end.

    Returns:
        The content of outcome.json.

    Raises:
        Stop: the loop stopped with an error of its own (outcome.json has `error`).
    """
    import ray.train
    import ray.train.torch

    device = "a GPU each" if workers.use_gpu else "CPUs"
    log.info("%s, on %s", count_told(workers.least, workers.most, "worker"), device)
    if workers.unused:
        log.warning(
            "%d %s of the cluster are left unused; --num-workers %d takes them, and makes the batches of a "
            "new run larger by that",
            workers.unused,
            "GPUs" if workers.use_gpu else "nodes",
            workers.most + workers.unused,
        )
    remove(*filesystem(join(root, "_run", "outcome.json")))
    remove(*filesystem(log_directory(root)))  # of another attempt to run
    # a URL is not for Ray, which asks for it with a client of its own, and keeps nothing of ours there
    ray_dir = join(root, "_run", "ray") if is_local(root) else tempfile.mkdtemp(prefix="painter-ray-")
    trainer = _without_handler(ray.train.torch.TorchTrainer)(
        in_worker(loop),
        train_loop_config={"plan": plan},
        scaling_config=ray.train.ScalingConfig(**_scaling(workers)),
        torch_config=ray.train.torch.TorchConfig(timeout_s=PATIENCE_S),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg]  # Ray annotates the class that was there before
            # a name of its own: Ray would take up what lies under an old one without asking
            name=uuid.uuid4().hex,
            storage_path=ray_dir,
            failure_config=ray.train.FailureConfig(max_failures=3),
            worker_runtime_env={"env_vars": worker_variables(os.environ)},
        ),
    )
    follower = TrainingProgress(
        root,
        num_steps,
        save_steps=plan.config.run.save_checkpoint_steps,
        resize_interval_s=workers.resize_interval_s if workers.are_elastic else None,
        workers=count_told(workers.least, workers.most, "worker"),
    )
    ended = threading.Event()
    thread = threading.Thread(target=follower.run, args=(ended,), daemon=True)
    thread.start()
    try:
        trainer.fit()
    finally:
        ended.set()
        thread.join()
        if not is_local(root):
            shutil.rmtree(ray_dir, ignore_errors=True)
    return complete(root)


def _scaling(workers: Workers) -> dict[str, Any]:
    """Ray's settings for these workers; untyped, since Ray annotates the class that was there before."""
    found = {"use_gpu": workers.use_gpu, "resources_per_worker": workers.resources}
    if not workers.use_gpu:
        # a worker takes the CPUs of its node, and Ray would fill one node first
        found["placement_strategy"] = "SPREAD"
    if not workers.are_elastic:
        return {**found, "num_workers": workers.most}
    return {
        **found,
        "num_workers": (workers.least, workers.most),
        "elastic_resize_monitor_interval_s": workers.resize_interval_s,
    }


def complete(root: str) -> dict[str, Any]:
    """When the workers have ended: what they left in outcome.json; _SUCCESS if it is a success.

    Raises:
        Stop: they stopped with an error of their own.
    """
    outcome = read_json(*filesystem(join(root, "_run", "outcome.json")))
    if outcome.get("error"):
        raise Stop(outcome.get("code", 1), outcome["error"])
    write_bytes(*filesystem(join(root, "_SUCCESS")), b"")
    if len(outcome["world_sizes"]) > 1:
        log.info("%s", told(outcome["world_sizes"], outcome["step"]))
    return outcome


def worker_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of a worker, beside those of Ray; none where the user has set how threads wait.

    Threads on a CPU wait for each other many times a step, and libgomp's look 300,000 times before they
    sleep. Where another process has taken a core, the thread that is waited for gets it that much later.
    """
    if environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        return {}
    return {"GOMP_SPINCOUNT": "10000"}  # as fast alone, twice as fast beside other work (RESULTS.md)


def _without_handler(trainer: type) -> type:
    """A trainer that leaves Ctrl-C to us; Ray's would take SIGINT for itself and end with code 0."""
    return type("Trainer", (trainer,), {"_register_sigint_handler": lambda self, controller: None})


def this_worker(precision: Literal["auto", "fp32", "bf16"]) -> Worker:
    """Rank, device, threads and precision of the training worker that calls this."""
    import ray.train
    import ray.train.torch
    import torch

    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cuda" and PRETENDED:
        device = torch.device("cpu")
    if device.type == "cuda":
        if why := gpu_problem():
            raise RuntimeError(why)
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(threads_of_a_worker(context.get_local_world_size(), _cpus_of_this_node()))
    return Worker(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=device,
        precision=shared_precision(precision, device, context.get_world_size()),
    )


def threads_of_a_worker(num_workers: int, node_cpus: float) -> int:
    """CPU threads of one of the workers of a node.

    Args:
        node_cpus: that Ray gives out there; the machine may have more, for other nodes.
    """
    return max(1, int(min(usable_cpus(), node_cpus)) // num_workers)


def _cpus_of_this_node() -> float:
    import ray

    here = ray.get_runtime_context().get_node_id()
    return next(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["NodeID"] == here)


def resume_from(output: Output, worker: Worker) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to go on from, and its training/state.pt on the CPU; None at the beginning of a run.

    Rank 0 completes what a kill may have left undone after that checkpoint was saved: best/ and last/. When
    it is loaded, `output.loaded` is called.
    """
    import torch

    path = output.newest()
    if path is None:
        return None
    state = torch.load(path / "training" / "state.pt", map_location="cpu", weights_only=True)
    if worker.rank == 0:
        output.repair(is_best=state.get("is_best", False))
    log.info("resuming at step %d from %s", state["step"], path)
    return path, state


def stop_training(output: Output, worker: Worker, message: str) -> None:
    """Ends the run without an exception, which Ray would only try again, to the same end.

    Every rank calls it and returns; rank 0 leaves the message for the driver.
    """
    if worker.rank == 0:
        write_outcome(output.root, {"error": message})
