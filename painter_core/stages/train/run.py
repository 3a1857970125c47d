"""codes -> model: the job, from its flags to the end of its workers."""

import dataclasses
import logging

from painter_core.models.gpt import GPTConfig
from painter_core.runs.cluster import start_ray
from painter_core.runs.next_step import next_step
from painter_core.runs.ray_train import Workers, gpu_wait, run_workers
from painter_core.runs.run import Run
from painter_core.stages.train.codes import TrainJobConfig, make_tables
from painter_core.stages.train.dry_run import gpt_step
from painter_core.stages.train.loop import train_loop
from painter_core.stages.train.plan import make_plan
from painter_core.stages.train.previews import plan_previews
from painter_core.stages.train.recipe import with_recipe, with_views
from painter_core.training.gpt_config import TrainConfig

log = logging.getLogger(__name__)


def train(config: TrainJobConfig, run: Run) -> None:
    """codes tables, or pairs tables, -> model."""
    flags = config.train.run
    run.then(next_step("train", config.train.checkpoint_dir, dry_run=flags.dry_run))
    previews = plan_previews(config.previews, every=flags.save_checkpoint_steps, seed=flags.random_seed)
    cluster = start_ray(gpu_wait(flags))
    made = make_tables(with_views(config), run, cluster)
    if made.sketch is not None:
        _dry_run(
            made.config,
            made.sketch.gpt,
            made.sketch.workers,
            f"{made.config.epoch_num:g} epochs of the codes",
        )
        return
    planned = make_plan(with_recipe(made.config), run, cluster)
    if planned is None:
        return
    plan, training = planned
    if previews is not None and not plan.gpt.paints:
        raise ValueError("--preview-table: the model only captions, it paints nothing; leave it out")
    plan = dataclasses.replace(plan, previews=previews)
    if plan.config.run.dry_run:
        what = f"{plan.num_steps} steps of {plan.global_batch_size} samples"
        _dry_run(plan.config, plan.gpt, plan.workers, what)
        return
    counts = (f"{plan.num_samples:,}", plan.global_batch_size, plan.num_steps)
    log.info("train: %s samples, global batch %d, %d steps", *counts)
    training.end(run_workers(train_loop, plan, plan.root, plan.workers, num_steps=plan.num_steps))


def _dry_run(config: TrainConfig, gpt: GPTConfig, workers: Workers, what: str) -> None:
    """One step in this process; nothing is written."""
    gpt_step(config, gpt, use_gpu=workers.use_gpu)
    log.info("dry run: nothing written; a run is %s, with %d workers", what, workers.most)
