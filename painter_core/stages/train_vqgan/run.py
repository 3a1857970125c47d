"""pictures -> VQGAN: the job, from its flags to the end of its workers."""

import logging

from painter_core.runs.cluster import start_ray
from painter_core.runs.next_step import next_step
from painter_core.runs.ray_train import gpu_wait, run_workers
from painter_core.runs.run import Run
from painter_core.stages.train_vqgan.dry_run import vqgan_step
from painter_core.stages.train_vqgan.loop import train_loop
from painter_core.stages.train_vqgan.plan import make_plan
from painter_core.training.vqgan_config import VQGANTrainConfig

log = logging.getLogger(__name__)


def train_vqgan(config: VQGANTrainConfig, run: Run) -> None:
    """pairs tables -> VQGAN."""
    run.then(next_step("train_vqgan", config.outputs, dry_run=config.run.dry_run))
    planned = make_plan(config, run, start_ray(gpu_wait(config.run)))
    if planned is None:
        return
    plan, training = planned
    steps, workers = plan.config.max_steps, plan.workers
    if plan.config.run.dry_run:
        vqgan_step(plan.config, plan.vqgan, use_gpu=workers.use_gpu)
        log.info("dry run: nothing written; a run is %d steps, with %d workers", steps, workers.most)
        return
    log.info("train_vqgan: %s, global batch %d, %d steps", plan.vqgan, plan.global_batch_size, steps)
    training.end(run_workers(train_loop, plan, plan.root, workers, num_steps=steps))
