"""pictures -> VQGAN: the job, from its flags to the end of its workers."""

import logging
from typing import Any

from painter_core.runs.ray_train import run_workers
from painter_core.stages.train_vqgan.plan import VQGANPlan

log = logging.getLogger(__name__)


def fit(plan: VQGANPlan) -> dict[str, Any]:
    """Runs the workers to the end and returns the last metrics."""
    from painter_core.stages.train_vqgan.loop import train_loop

    log.info(
        "train_vqgan: %s, global batch %d, %d steps",
        plan.vqgan,
        plan.global_batch_size,
        plan.config.max_steps,
    )
    return run_workers(train_loop, plan, plan.root, plan.workers, num_steps=plan.config.max_steps)
