"""What every worker of jobs/train_vqgan.py runs."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from painter_core.files.faults import failpoint
from painter_core.files.storage import file_sha256
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.perceptual import PerceptualDistance
from painter_core.models.vqgan import VQGAN
from painter_core.runs.ray_train import resume_from, stop_training, this_worker
from painter_core.stages.pins import check_pins
from painter_core.stages.train_vqgan.pictures import open_pictures
from painter_core.stages.train_vqgan.plan import VQGANPlan, recorded_files
from painter_core.tables.inputs import find_files
from painter_core.training.card import model_card
from painter_core.training.data_order import epoch_order
from painter_core.training.metrics import MetricsLog
from painter_core.training.output import Output, open_output
from painter_core.training.perceptual_weights import load_perceptual, perceptual_files
from painter_core.training.preview_sheet import write_sheet
from painter_core.training.vqgan import VQGANTrainer, learning_rate
from painter_core.training.vqgan_validation import contact_sheet, validate
from painter_core.training.window import Window
from painter_core.training.worker import Worker
from painter_core.training.world_sizes import continued

log = logging.getLogger(__name__)

VALIDATED = 512  # pictures at most
SHOWN = 8  # pictures of a contact sheet


class _Run:
    """A worker's trainer, pictures and position."""

    def __init__(self, plan: VQGANPlan, output: Output, worker: Worker) -> None:
        self.plan, self.config, self.output, self.worker = plan, plan.config, output, worker
        self.pictures = self._pictures(plan.train_table, 0)
        self.valid = self._pictures(plan.valid_table, 1) if plan.valid_table else self.pictures
        self.valid = self.valid[:VALIDATED]
        self.trainer = VQGANTrainer(self._start_model(), self.config, self.worker, self._perceptual())
        self.best, self.is_best, self.found = -np.inf, False, dict[str, float]()
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self.window = Window()
        world_sizes: list[list[int]] = []
        if found := resume_from(output, self.worker):
            self.best = found[1]["best"]
            self.trainer.load_state(found[1])
            self.found = found[1].get("found", {})  # a checkpoint of an older version has neither
            world_sizes = found[1].get("world_sizes", [])
            if "window" in found[1]:
                self.window.load_state(found[1]["window"])
            output.loaded(found[0], self.worker)
        self.world_sizes = continued(world_sizes, self.trainer.step, worker.world_size)

    def _start_model(self) -> VQGAN:
        torch.manual_seed(self.config.run.random_seed)
        if self.config.vqgan is None:
            return VQGAN(self.plan.vqgan).train()
        opened = open_model(self.config.vqgan)
        vqgan = opened.load_vqgan().train()
        check_pins(self.config.vqgan, {"start_sha256": opened.vqgan_sha256()}, self.plan.identity)
        return vqgan

    def _perceptual(self) -> PerceptualDistance | None:
        if self.config.perceptual_weights is None:
            return None
        files = perceptual_files(self.config.perceptual_weights)
        found = load_perceptual(files)
        sums = {"perceptual_sha256": [file_sha256(file) for file in files]}
        check_pins(self.config.perceptual_weights, sums, self.plan.identity)
        return found

    def _pictures(self, table: str, number: int) -> np.ndarray:
        config = self.config
        pictures = open_pictures(
            table,
            self.plan.columns,
            image_size=self.plan.vqgan.image_size,
            resize=config.resize,
            alpha=config.alpha,
            max_reject_fraction=config.max_reject_fraction,
        )
        planned = {"tables": self.plan.identity["tables"][number]}
        check_pins(table, {"tables": recorded_files(find_files(table))}, planned)
        return pictures

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
            sheet = contact_sheet(averaged, self.valid[:SHOWN])
            write_sheet(self.plan.root, step, "valid/reconstruction", sheet, metrics)
            self.is_best = self.found["valid_psnr"] >= self.best
            self.best = max(self.best, self.found["valid_psnr"])
            keep = self.config.run.keep_checkpoints
            self.output.save(step, self._write, keep=keep, is_best=self.is_best)
        failpoint("train_vqgan_saved", step=step, rank=self.worker.rank)

    def _write(self, directory: Path) -> None:
        write_model(directory, vqgan=self.trainer.averaged().cpu(), card=self._card())
        (directory / "training").mkdir()
        state = {
            "best": self.best,
            "is_best": self.is_best,
            "found": self.found,
            "window": self.window.state(),
            "world_sizes": self.world_sizes,
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
    plan: VQGANPlan = config["plan"]
    train_as(this_worker(plan.config.precision), plan)


def train_as(worker: Worker, plan: VQGANPlan) -> None:
    """What one worker does, from the newest checkpoint to the end."""
    with open_output(plan.root) as output:
        _all_steps(_Run(plan, output, worker))


def _all_steps(run: _Run) -> None:
    plan, worker, trainer = run.plan, run.worker, run.trainer
    if len(run.pictures) < plan.global_batch_size:
        stop_training(
            run.output,
            worker,
            f"{len(run.pictures)} pictures are fewer than one global batch ({plan.global_batch_size}); use a "
            "smaller --micro-batch-size",
        )
        return
    metrics = run.output.open_metrics(trainer.step) if worker.rank == 0 else None
    run.window.restart()
    while trainer.step < run.config.max_steps:
        rate = learning_rate(run.config, trainer.step)
        if count := trainer.pictures_for_codebook:
            trainer.lay_out_codebook(run.spread_pictures(count))
        found = trainer.train_step(run.next_pictures())
        if bad := [f"{name} {value}" for name, value in found.items() if not np.isfinite(value)]:
            stop_training(
                run.output,
                worker,
                f"{', '.join(bad)} at step {trainer.step + 1}: stopped before the update. Try a lower "
                "--learning-rate",
            )
            return
        run.window.add(found["train_loss"], plan.global_batch_size)
        last = trainer.step == run.config.max_steps
        if metrics and (trainer.step % run.config.run.logging_steps == 0 or last):
            speed = {"samples_per_s": run.window.speed(), "num_workers": worker.world_size}
            metrics.log(trainer.step, **found, lr=rate, **speed)
            run.window = Window()
        if trainer.step % run.config.run.save_checkpoint_steps == 0 or last:
            run.save(metrics)
            run.window.restart()
    if metrics:
        metrics.close()
        values = {"step": trainer.step, "best_psnr": run.best, "world_sizes": run.world_sizes}
        run.output.end({**values, **run.found})
