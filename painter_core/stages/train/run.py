"""codes -> model: the job, from its flags to the end of its workers."""

import logging
from typing import Any

from painter_core.runs.ray_train import run_workers
from painter_core.stages.train.plan import TrainPlan

log = logging.getLogger(__name__)


def fit(plan: TrainPlan) -> dict[str, Any]:
    """Runs the workers to the end and returns the last metrics."""
    from painter_core.stages.train.loop import train_loop

    log.info(
        "train: %s samples, global batch %d, %d steps",
        f"{plan.num_samples:,}",
        plan.global_batch_size,
        plan.num_steps,
    )
    return run_workers(train_loop, plan, plan.root, plan.workers, num_steps=plan.num_steps)
