"""Running a training loop on Ray Train: workers, restarts, progress, the end of the run.

The loop keeps its own checkpoints (painter_core.training.checkpoints) and takes up the newest one by itself,
so a worker that dies is replaced and the run goes on; Ray keeps nothing.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from painter_core.compute.cpus import usable_cpus
from painter_core.compute.devices import resolve_training_precision
from painter_core.files.storage import filesystem, write_bytes, write_json
from painter_core.runs.cluster import Cluster, GpuWait, parse_range, wanted_workers
from painter_core.training.checkpoints import latest_checkpoint, publish, repair_published
from painter_core.training.run_flags import TrainingRunFlags
from painter_core.training.worker import Worker

log = logging.getLogger(__name__)

SHOWN = ("train_loss", "valid_loss", "train_rec", "valid_psnr", "valid_usage", "lr", "samples_per_s")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many training workers there are to be, and on what."""

    least: int
    most: int
    use_gpu: bool
    unused: int = 0
    """GPUs, or nodes where CPUs train, that no worker gets."""


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
    # the global batch is made for so many workers, and stays: there must be room for them now
    most = min(most, room)
    # on CPUs a worker takes those of its node
    unused = max(0, (room if on_gpu else cluster.nodes) - most)
    return Workers(least=least, most=most, use_gpu=on_gpu, unused=unused)


def run_workers(
    loop: Callable[[dict[str, Any]], None], plan: Any, root: Path, workers: Workers, *, num_steps: int
) -> dict[str, Any]:
    """Runs `loop({"plan": plan})` in every worker, to the end.

    The loop writes ROOT/metrics.jsonl, whose lines are printed here, and ROOT/_run/outcome.json at its end.

    Returns:
        The content of outcome.json.

    Raises:
        RuntimeError: the loop stopped with an error of its own (outcome.json has `error`).
    """
    import ray.train
    import ray.train.torch

    log.info("%d..%d workers on %s", workers.least, workers.most, "GPUs" if workers.use_gpu else "CPUs")
    if workers.unused:
        log.warning(
            "%d %s of the cluster are left unused; --num-workers %d takes them, and makes the batches of a "
            "new run larger by that",
            workers.unused,
            "GPUs" if workers.use_gpu else "nodes",
            workers.most + workers.unused,
        )
    (root / "_run" / "outcome.json").unlink(missing_ok=True)
    # (least, most) lets Ray go on with fewer; its annotation of num_workers lags behind
    number: Any = (workers.least, workers.most) if workers.least < workers.most else workers.most
    trainer = _without_handler(ray.train.torch.TorchTrainer)(
        loop,
        train_loop_config={"plan": plan},
        scaling_config=ray.train.ScalingConfig(
            num_workers=number,
            use_gpu=workers.use_gpu,
            resources_per_worker={"GPU": 1, "CPU": 1} if workers.use_gpu else {"CPU": 0.75},
        ),
        run_config=ray.train.RunConfig(
            # a name of its own: Ray would take up what lies under an old one without asking
            name=uuid.uuid4().hex,
            storage_path=str(root / "_run" / "ray"),
            failure_config=ray.train.FailureConfig(max_failures=3),
        ),
    )
    follower, ended = _Follower(root / "metrics.jsonl", num_steps), threading.Event()
    thread = threading.Thread(target=follower.run, args=(ended,), daemon=True)
    thread.start()
    try:
        trainer.fit()
    finally:
        ended.set()
        thread.join()
    outcome = json.loads((root / "_run" / "outcome.json").read_text())
    if outcome.get("error"):
        raise RuntimeError(outcome["error"])
    write_bytes(*filesystem(str(root / "_SUCCESS")), b"")
    return outcome


def _without_handler(trainer: type) -> type:
    """A trainer that leaves Ctrl-C to us; Ray's would take SIGINT for itself and end with code 0."""
    return type("Trainer", (trainer,), {"_register_sigint_handler": lambda self, controller: None})


class _Follower:
    """Prints the lines that rank 0 adds to metrics.jsonl."""

    def __init__(self, path: Path, num_steps: int) -> None:
        self._path, self._num_steps = path, num_steps
        self._seen = len(self._lines())  # what an interrupted run left is not news
        self._first: tuple[int, float] | None = None

    def run(self, ended: threading.Event) -> None:
        """Looks every second until the end."""
        while not ended.wait(1.0):
            self._show()
        self._show()

    def _lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []

    def _show(self) -> None:
        lines = self._lines()
        self._seen = min(self._seen, len(lines))  # a resumed run cuts the file
        for line in lines[self._seen :]:
            values = json.loads(line)
            first, began = self._first = self._first or (values["step"], time.monotonic())
            rate = (values["step"] - first) / (time.monotonic() - began + 1e-9)
            eta = f", {(self._num_steps - values['step']) / rate:.0f} s left" if rate else ""
            shown = ", ".join(f"{k} {v:.4g}" for k, v in values.items() if k in SHOWN)
            log.info("step %d of %d, %s%s", values["step"], self._num_steps, shown, eta)
        self._seen = len(lines)


def this_worker(precision: Literal["auto", "fp32", "bf16"]) -> Worker:
    """Rank, device, threads and precision of the training worker that calls this."""
    import ray.train
    import ray.train.torch
    import torch

    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(threads_of_a_worker(context.get_local_world_size()))
    return Worker(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=device,
        precision=resolve_training_precision(precision, device),
    )


def threads_of_a_worker(num_workers: int) -> int:
    """CPU threads of one of the workers of a node."""
    return max(1, usable_cpus() // num_workers)


def resume_from(root: Path, worker: Worker) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to go on from, and its training/state.pt on the CPU; None at the beginning of a run.

    Rank 0 completes what a kill may have left undone after that checkpoint was saved: best/ and last/.
    """
    import torch

    path = latest_checkpoint(root)
    if path is None:
        return None
    state = torch.load(path / "training" / "state.pt", map_location="cpu", weights_only=True)
    if worker.rank == 0:
        for name in ("best", "last"):
            repair_published(root / name)
        if state.get("is_best", False):
            publish(root / "best", path)
    log.info("resuming at step %d from %s", state["step"], path)
    return path, state


def end_training(root: Path, values: dict[str, Any]) -> None:
    """Rank 0 at the end: last/ is the newest checkpoint, and the driver hears `values`."""
    newest = latest_checkpoint(root)
    assert newest is not None
    publish(root / "last", newest)
    _write_outcome(root, values)


def stop_training(root: Path, worker: Worker, message: str) -> None:
    """Ends the run without an exception, which Ray would only try again, to the same end.

    Every rank calls it and returns; rank 0 leaves the message for the driver.
    """
    if worker.rank == 0:
        _write_outcome(root, {"error": message})


def _write_outcome(root: Path, values: dict[str, Any]) -> None:
    """outcome.json, which the driver reads when the workers have ended."""
    write_json(*filesystem(str(root / "_run" / "outcome.json")), values)
