"""What every worker of jobs/train_vqgan.py runs."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from painter_core.files.faults import failpoint
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGAN
from painter_core.runs.ray_train import end_training, resume_from, stop_training, this_worker
from painter_core.stages.train_vqgan.pictures import open_pictures
from painter_core.stages.train_vqgan.plan import VQGANPlan
from painter_core.training.card import model_card
from painter_core.training.checkpoints import publish, save_checkpoint
from painter_core.training.data_order import epoch_order
from painter_core.training.metrics import MetricsLog
from painter_core.training.perceptual_weights import load_perceptual, perceptual_files
from painter_core.training.vqgan import VQGANTrainer, learning_rate
from painter_core.training.vqgan_validation import contact_sheet, validate
from painter_core.training.window import Window

log = logging.getLogger(__name__)

VALIDATED = 512  # pictures at most
SHOWN = 8  # pictures of a contact sheet


class _Run:
    """A worker's trainer, pictures and position."""

    def __init__(self, plan: VQGANPlan) -> None:
        self.plan, self.config = plan, plan.config
        self.worker = this_worker(self.config.precision)
        self.pictures = self._pictures(plan.train_table)
        self.valid = self._pictures(plan.valid_table or plan.train_table)[:VALIDATED]
        torch.manual_seed(self.config.run.random_seed)
        vqgan = open_model(self.config.vqgan).load_vqgan() if self.config.vqgan else VQGAN(plan.vqgan)
        flag = self.config.perceptual_weights
        perceptual = load_perceptual(perceptual_files(flag)) if flag else None
        self.trainer = VQGANTrainer(vqgan.train(), self.config, self.worker, perceptual)
        self.best, self.is_best, self.found = -np.inf, False, dict[str, float]()
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self.window = Window()
        if found := resume_from(plan.root, self.worker):
            self.best = found[1]["best"]
            self.trainer.load_state(found[1])
            self.found = found[1].get("found", {})  # a checkpoint of an older version has neither
            if "window" in found[1]:
                self.window.load_state(found[1]["window"])

    def _pictures(self, table: str) -> np.ndarray:
        config = self.config
        return open_pictures(
            table,
            self.plan.columns,
            image_size=self.plan.vqgan.image_size,
            resize=config.resize,
            alpha=config.alpha,
            max_reject_fraction=config.max_reject_fraction,
        )

    def next_pictures(self) -> np.ndarray:
        """This rank's share of the next global batch."""
        batch = self.plan.global_batch_size
        epoch, step = divmod(self.trainer.step, max(1, len(self.pictures) // batch))
        if self.order[0] != epoch:
            self.order = (epoch, epoch_order(self.config.run.random_seed, epoch, len(self.pictures)))
        rows = self.order[1][step * batch : (step + 1) * batch]
        return self.pictures[np.sort(rows[self.worker.rank :: self.worker.world_size])]

    def spread_pictures(self, count: int) -> np.ndarray:
        """At most `count` pictures from all over the table."""
        rows = np.linspace(0, len(self.pictures) - 1, min(count, len(self.pictures)))
        return self.pictures[rows.astype(np.int64)]

    def save(self, metrics: MetricsLog | None) -> None:
        """Validates and saves on rank 0; the others wait in the next step's reduction."""
        step = self.trainer.step
        if self.worker.rank == 0:
            averaged = self.trainer.averaged()
            self.found = validate(averaged, self.valid)
            if metrics:  # before the checkpoint: a kill in between drops the line with the step
                metrics.log(step, **self.found)
                metrics.image(step, "valid/reconstruction", contact_sheet(averaged, self.valid[:SHOWN]))
            self.is_best = self.found["valid_psnr"] >= self.best
            self.best = max(self.best, self.found["valid_psnr"])
            keep = self.config.run.keep_checkpoints
            path = save_checkpoint(self.plan.root, step, self._write, keep=keep)
            if self.is_best:
                publish(self.plan.root / "best", path)
        failpoint("train_vqgan_saved", step=step, rank=self.worker.rank)

    def _write(self, directory: Path) -> None:
        write_model(directory, vqgan=self.trainer.averaged().cpu(), card=self._card())
        (directory / "training").mkdir()
        state = {
            "best": self.best,
            "is_best": self.is_best,
            "found": self.found,
            "window": self.window.state(),
        }
        torch.save({**self.trainer.state(), **state}, directory / "training" / "state.pt")

    def _card(self) -> str:
        plan, psnr, usage = self.plan, self.found.get("valid_psnr", 0), self.found.get("valid_usage", 0)
        facts = (
            f"Step {self.trainer.step:,} of {self.config.max_steps:,}, {len(self.pictures):,} pictures, "
            f"global batch {plan.global_batch_size}, precision {self.worker.precision}. On "
            f"{len(self.valid)} validation pictures: PSNR {psnr:.2f} dB, codebook usage {usage:.1%}."
        )
        return model_card("VQGAN", "jobs/train_vqgan.py", facts, plan.identity)


def train_loop(config: dict[str, Any]) -> None:
    """The function that Ray Train runs in every worker."""
    run = _Run(config["plan"])
    plan, worker, trainer = run.plan, run.worker, run.trainer
    if len(run.pictures) < plan.global_batch_size:
        stop_training(
            plan.root,
            worker,
            f"{len(run.pictures)} pictures are fewer than one global batch ({plan.global_batch_size}); use a "
            "smaller --micro-batch-size",
        )
        return
    metrics = MetricsLog(plan.root, resume_step=trainer.step) if worker.rank == 0 else None
    run.window.restart()
    while trainer.step < run.config.max_steps:
        rate = learning_rate(run.config, trainer.step)
        if count := trainer.pictures_for_codebook:
            trainer.lay_out_codebook(run.spread_pictures(count))
        found = trainer.train_step(run.next_pictures())
        if bad := [f"{name} {value}" for name, value in found.items() if not np.isfinite(value)]:
            stop_training(
                plan.root,
                worker,
                f"{', '.join(bad)} at step {trainer.step + 1}: stopped before the update. Try a lower "
                "--learning-rate",
            )
            return
        run.window.add(found["train_loss"], plan.global_batch_size)
        last = trainer.step == run.config.max_steps
        if metrics and (trainer.step % run.config.run.logging_steps == 0 or last):
            metrics.log(trainer.step, **found, lr=rate, samples_per_s=run.window.speed())
            run.window = Window()
        if trainer.step % run.config.run.save_checkpoint_steps == 0 or last:
            run.save(metrics)
            run.window.restart()
    if metrics:
        metrics.close()
        end_training(plan.root, {"step": trainer.step, "best_psnr": run.best, **run.found})
