"""Running a training loop on Ray Train: workers, restarts, progress, the end of the run.

The loop keeps its own checkpoints (painter_core.training_checkpoint) and takes up the newest one by itself,
so a worker that dies is replaced and the run goes on; Ray keeps nothing.
"""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from painter_core.stages.launch import cluster_resources, parse_range
from painter_core.storage import filesystem, write_bytes, write_json

log = logging.getLogger(__name__)

SHOWN = ("train_loss", "valid_loss", "train_rec", "valid_psnr", "valid_usage", "lr", "samples_per_s")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many training workers there are to be, and on what."""

    least: int
    most: int
    use_gpu: bool


def find_workers(num_workers: str, use_gpu: str) -> Workers:
    """From --num-workers and --use-gpu and what the cluster has.

    Raises:
        ValueError: the cluster has no room for them.
    """
    available = cluster_resources()
    gpus = int(available.get("GPU", 0))
    on_gpu = gpus > 0 if use_gpu == "auto" else use_gpu == "yes"
    least, most = parse_range("--num-workers", num_workers) or (1, 1)
    room = gpus if on_gpu else int(available["CPU"])
    if least > room:
        raise ValueError(f"--num-workers {least}: the cluster has {room} {'GPUs' if on_gpu else 'CPUs'}")
    return Workers(least=least, most=min(most, room), use_gpu=on_gpu)


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
    (root / "_run" / "outcome.json").unlink(missing_ok=True)
    # (least, most) lets Ray go on with fewer; its annotation of num_workers lags behind
    number: Any = (workers.least, workers.most) if workers.least < workers.most else workers.most
    trainer = ray.train.torch.TorchTrainer(
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
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(root, num_steps, stop), daemon=True)
    follower.start()
    try:
        trainer.fit()
    finally:
        stop.set()
        follower.join()
    outcome = json.loads((root / "_run" / "outcome.json").read_text())
    if outcome.get("error"):
        raise RuntimeError(outcome["error"])
    write_bytes(*filesystem(str(root / "_SUCCESS")), b"")
    return outcome


def _follow(root: Path, num_steps: int, stop: threading.Event) -> None:
    """Prints the lines that rank 0 adds to metrics.jsonl."""
    path, began, first = root / "metrics.jsonl", time.monotonic(), None
    # what an interrupted run left is not news
    seen = len(path.read_text().splitlines()) if path.exists() else 0
    while True:
        ending = stop.wait(1.0)
        lines = path.read_text().splitlines() if path.exists() else []
        seen = min(seen, len(lines))  # a resumed run cuts the file
        for line in lines[seen:]:
            values = json.loads(line)
            if first is None:
                first = values["step"]
                began = time.monotonic()
            rate = (values["step"] - first) / (time.monotonic() - began + 1e-9)
            eta = f", {(num_steps - values['step']) / rate:.0f} s left" if rate else ""
            shown = ", ".join(f"{k} {v:.4g}" for k, v in values.items() if k in SHOWN)
            log.info("step %d of %d, %s%s", values["step"], num_steps, shown, eta)
        seen = len(lines)
        if ending:
            return


def write_training_summary(
    root: Path, stage: str, values: dict[str, Any], code: int, message: str, seconds: float
) -> None:
    """ROOT/summary.json: how the run ended."""
    summary = {
        "stage": stage,
        "exit_code": code,
        "message": message,
        "seconds": round(seconds, 3),
        **values,
        "next": "" if code == 0 else "submit the same command again to resume",
    }
    write_json(*filesystem(str(root / "summary.json")), summary)


def threads_of_a_worker(num_workers: int) -> int:
    """CPU threads of one of the workers of a node."""
    return max(1, (os.cpu_count() or 1) // num_workers)


def write_outcome(root: Path, values: dict[str, Any]) -> None:
    """Rank 0's last words to the driver; with `error` the run ends without being tried again, to the same
    end."""
    write_json(*filesystem(str(root / "_run" / "outcome.json")), values)
