"""What every training worker runs: take up the newest checkpoint, step through the data, save, validate."""

import functools
import logging
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from painter_core.files.directories import local_copy
from painter_core.files.faults import failpoint
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT
from painter_core.runs.ray_train import resume_from, stop_training, this_worker
from painter_core.stages.codes_table import open_samples, open_vqgan
from painter_core.stages.pins import check_pins, content_sha256
from painter_core.stages.train.directions import pretrained_pins
from painter_core.stages.train.plan import TrainPlan
from painter_core.stages.train.previews import Previews
from painter_core.tables.records import read_manifest
from painter_core.text.tokenizer import load_tokenizer
from painter_core.training.card import model_card
from painter_core.training.data_order import epoch_order, rank_share
from painter_core.training.gpt import Task, start_from_codebook, update
from painter_core.training.gpt_config import MICRO_BATCH
from painter_core.training.metrics import MetricsLog
from painter_core.training.micro_batch import awaited_bytes, with_micro_batch
from painter_core.training.optimizers import learning_rate, make_optimizers, set_learning_rate
from painter_core.training.output import Output, open_output
from painter_core.training.regions import compile_regions
from painter_core.training.samples import Samples
from painter_core.training.sharding import load_optimizer, save_moments, without_moments
from painter_core.training.speed import speed
from painter_core.training.tasks import task_of, validate_all
from painter_core.training.trained import Trained
from painter_core.training.update import Update
from painter_core.training.window import Window
from painter_core.training.worker import Worker
from painter_core.training.world_sizes import continued

log = logging.getLogger(__name__)

GPU_VALIDATION = 128  # samples of a forward pass without gradients on a GPU, at least


class _Run:
    """A worker's model, optimizer, data and position."""

    def __init__(self, plan: TrainPlan, output: Output, worker: Worker) -> None:
        self.plan, self.output, self.worker = plan, output, worker
        with local_copy(plan.tokenizer_dir) as directory:
            self.tokenizer = load_tokenizer(directory)
        check_pins(plan.tokenizer_dir, {"tokenizer_sha256": self.tokenizer.sha256}, plan.identity)
        self.train = self._samples(plan.train_table, 0)
        self.valid = self._samples(plan.valid_table, 1) if plan.valid_table else None
        self.config = plan.config
        self.trained = Trained(self._start_model(), self.config, worker)
        self.is_sharded = self.trained.is_sharded
        self.step, self.best_loss, self.valid_loss, self.is_best = 0, float("inf"), float("nan"), False
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self.task: Task | None = None
        self.since_best = 0
        self.window = Window()
        self.world_sizes: list[list[int]] = []
        self._resume()
        self.world_sizes = continued(self.world_sizes, self.step, worker.world_size)
        waits = awaited_bytes(self.trained.gpt, self.optimizers, worker, is_sharded=self.is_sharded)
        self.config = with_micro_batch(self.config, plan.gpt, worker, plan.global_batch_size, waits)
        self.model = self._wrapped()

    def _samples(self, table: str, number: int) -> Samples:
        config = self.plan.gpt
        planned = {"tables_sha256": self.plan.tables_sha256[number]}
        check_pins(table, {"tables_sha256": content_sha256(read_manifest(table))}, planned)
        sizes = {"text_len": config.text_len, "codebook_size": config.codebook_size}
        return open_samples(table, self.tokenizer, **sizes, style=self.plan.style)

    def _start_model(self) -> GPT:
        torch.manual_seed(self.plan.config.run.random_seed)
        if name := self.plan.config.pretrained_model_name_or_path:
            model = open_model(name)
            gpt = self.plan.config.both_ways.fitted(model.load_gpt().train())
            check_pins(name, pretrained_pins(model, self.plan.config), self.plan.identity)
            return gpt
        gpt = GPT(self.plan.gpt)
        start_from_codebook(gpt, open_vqgan(self.plan.train_table).load_vqgan().quantize.embedding.weight)
        return gpt

    def _resume(self) -> None:
        found = resume_from(self.output, self.worker)
        if found is not None:
            self.trained.load(*found)
        self.trained.spread()
        self.optimizers = make_optimizers(self.trained.gpt, self.config, self.worker.precision)
        if found is None:
            return
        path, state = found
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, stored, path)
        torch.set_rng_state(state["rng"])
        self.step, self.best_loss = state["step"], state["best_loss"]
        self.valid_loss = state.get("valid_loss", self.valid_loss)  # an older version's has neither
        self.world_sizes = state.get("world_sizes", [])
        self.since_best = state.get("since_best", 0)
        if "window" in state:
            self.window.load_state(state["window"])
        self.output.loaded(path, self.worker)

    def _wrapped(self) -> nn.Module:
        model: nn.Module = self.trained.gpt
        wanted = self.config.run.compile
        if wanted == "on" or (wanted == "auto" and self.worker.device.type == "cuda"):
            compile_regions(self.trained.gpt)
        if self.worker.world_size > 1 and not self.is_sharded:
            devices = [self.worker.device.index] if self.worker.device.type == "cuda" else None
            model = nn.parallel.DistributedDataParallel(model, device_ids=devices)
        return model

    def next_rows(self) -> tuple[int, int, np.ndarray]:
        """Epoch, position in it, and the global batch of the next step."""
        epoch, step = divmod(self.step, self.plan.steps_per_epoch)
        if self.order[0] != epoch:
            self.order = (epoch, epoch_order(self.config.run.random_seed, epoch, len(self.train)))
            self.task = task_of(self.config, self.plan.gpt, self.train, epoch=epoch)
        start = step * self.plan.global_batch_size
        return epoch, start, self.order[1][start : start + self.plan.global_batch_size]

    def update(self) -> Update:
        """Does the next step."""
        epoch, position, rows = self.next_rows()
        rate = learning_rate(self.config, self.step, self.plan.num_steps)
        set_learning_rate(self.optimizers, rate)
        if failpoint("train_forward", step=self.step + 1):
            self.trained.gpt.register_forward_hook(lambda module, inputs, logits: logits * float("nan"))
        assert self.task is not None
        losses, norm = update(self.model, self.optimizers, self.task, rows, self.config, self.worker)
        self.step += 1
        # a step that was spoilt ends the run before the average is saved
        self.trained.follow(self.step)
        place = {"epoch": epoch, "position": position}
        return Update(step=self.step, rows=rows, place=place, rate=rate, losses=losses, norm=norm)

    def settle(self, done: Update) -> bool:
        """Reads the losses of a step; False, with the run stopped, if one or the gradient is not finite."""
        if problem := done.problem():
            stop_training(self.output, self.worker, problem)
            return False
        losses = done.read()
        self.window.add(losses[0], len(done.rows), *losses[1:])
        share = rank_share(done.rows, self.worker.rank, self.worker.world_size).tolist()
        epoch = done.place["epoch"]
        failpoint("train_step", step=done.step, rank=self.worker.rank, epoch=epoch, rows=share)
        return True

    def save(self, metrics: MetricsLog | None) -> None:
        """Validates, and on rank 0 writes a checkpoint and, if it is the best one, best/."""
        gpt = self.trained.saved.eval()
        if self.valid is not None:
            rows = self._rows_of_validation()
            found = validate_all(gpt, self.plan.gpt, self.valid, self.worker, self.config, rows)
            self.valid_loss = next(iter(found.values()))
            if metrics:  # before the checkpoint: a kill in between drops the line with the step
                metrics.log(self.step, **found)
        gpt.train()
        # without a validation table the newest counts as the best
        self.is_best = self.valid is None or self.valid_loss <= self.best_loss
        self.since_best = 0 if self.is_best else self.since_best + 1
        if self.is_best and self.valid is not None:
            self.best_loss = self.valid_loss
        whole, more = self.trained.whole(), self.trained.state()
        if self.worker.rank == 0:
            keep = self.config.run.keep_checkpoints
            write = functools.partial(self._write, whole, more)
            self.output.save(self.step, write, keep=keep, is_best=self.is_best)
        elif self.is_sharded:
            save_moments(self.optimizers[0], None, self.worker)
        failpoint("train_saved", step=self.step, rank=self.worker.rank)

    @property
    def is_done(self) -> bool:
        """Whether all steps are done, or the last validations were in vain."""
        patience = self.config.regularisation.patience
        return self.step >= self.plan.num_steps or (patience is not None and self.since_best >= patience)

    def _rows_of_validation(self) -> int:
        """Samples a forward pass, which keeps no activations."""
        rows = self.config.micro_batch_size or MICRO_BATCH
        return max(rows, GPU_VALIDATION) if self.worker.device.type == "cuda" else rows

    def _write(self, gpt: GPT, more: dict[str, Any], directory: Path) -> None:
        vqgan = open_vqgan(self.plan.train_table).path  # as the manifest of the codes names it, still
        write_model(directory, vqgan=vqgan, gpt=gpt, tokenizer=self.tokenizer, card=self._card())
        self.trained.write_adapter(directory, str(self.plan.identity["pretrained_sha256"]))
        (directory / "training").mkdir()
        if self.is_sharded:
            save_moments(self.optimizers[0], directory, self.worker)
        epoch, step = divmod(self.step, self.plan.steps_per_epoch)
        torch.save(
            {
                "step": self.step,
                "epoch": epoch,
                "position": step * self.plan.global_batch_size,
                "best_loss": self.best_loss,
                "valid_loss": self.valid_loss,
                "is_best": self.is_best,
                "window": self.window.state(),
                "world_sizes": self.world_sizes,
                "optimizers": [without_moments(optimizer) for optimizer in self.optimizers],
                "rng": torch.get_rng_state(),
                **more,
                **({} if self.config.regularisation.patience is None else {"since_best": self.since_best}),
            },
            directory / "training" / "state.pt",
        )

    def _card(self) -> str:
        plan = self.plan
        what = "token of a caption" if self.config.both_ways.image_to_text == 1 else "code"
        facts = (
            f"Step {self.step:,} of {plan.num_steps:,}, {plan.num_samples:,} training samples, global batch "
            f"{plan.global_batch_size}, precision {self.worker.precision}, validation loss "
            f"{self.valid_loss:.4f} nats a {what}.\nIt has no safety filter: it paints what its data shows."
        )
        return model_card("Text-to-image model", "jobs/train.py", facts, plan.identity)


def train_loop(config: dict[str, Any]) -> None:
    """The function that Ray Train runs in every worker."""
    plan: TrainPlan = config["plan"]
    train_as(this_worker(plan.config.precision), plan)


def train_as(worker: Worker, plan: TrainPlan) -> None:
    """What one worker does, from the newest checkpoint to the end."""
    with open_output(plan.root) as output:
        _all_steps(_Run(plan, output, worker))


def _all_steps(run: _Run) -> None:
    plan, worker = run.plan, run.worker
    # every worker starts to log only after all have read the checkpoint
    metrics = run.output.open_metrics(run.step) if worker.rank == 0 else None
    previews = None
    if plan.previews and worker.rank == 0:
        previews = Previews(plan.previews, plan.root, plan.vqgan_dir, run.tokenizer, worker)
    log.info("device %s, precision %s, %d threads", worker.device, worker.precision, torch.get_num_threads())
    run.window.restart()
    # a GPU computes a step while the host prepares the next one, and tells its loss only then
    later = 1 if worker.device.type == "cuda" else 0
    waiting: deque[Update] = deque()
    while not run.is_done:
        done = run.update()
        waiting.append(done)
        last = run.step == plan.num_steps
        paints = plan.previews is not None and plan.previews.is_due(run.step, is_last=last)
        logs = run.step % run.config.run.logging_steps == 0 or last
        saves = run.step % run.config.run.save_checkpoint_steps == 0 or last
        while len(waiting) > (0 if paints or logs or saves else later):
            if not run.settle(waiting.popleft()):
                return
        if paints:
            gpt = run.trained.whole()
            if previews:
                previews.paint(gpt.to(worker.device), run.step, metrics)
            run.window.restart()
        if metrics and logs:
            place = {**done.place, **speed(run.window, plan.gpt, worker), "num_workers": worker.world_size}
            norm = float(done.norm)
            metrics.log(run.step, **run.window.losses(), lr=done.rate, grad_norm=norm, **place)
            run.window = Window()
        if saves:
            run.save(metrics)
            run.window.restart()
    _finish(run, metrics)


def _finish(run: _Run, metrics: MetricsLog | None) -> None:
    if run.worker.rank != 0:
        return
    assert metrics is not None
    metrics.close()
    if run.step < run.plan.num_steps:
        log.info("stopped at step %d: %d validations were no better than the best", run.step, run.since_best)
    outcome = {"step": run.step, "best_valid_loss": run.best_loss, "last_valid_loss": run.valid_loss}
    finite = {k: v for k, v in outcome.items() if np.isfinite(v)}
    run.output.end(finite | {"world_sizes": run.world_sizes})
