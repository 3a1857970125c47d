"""What every training worker runs: take up the newest checkpoint, step through the data, save, validate."""

import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from painter_core.errors import Changed
from painter_core.files.faults import failpoint
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT
from painter_core.runs.ray_train import end_training, resume_from, stop_training, this_worker
from painter_core.stages.codes_table import open_samples
from painter_core.stages.pins import check_pins, content_sha256
from painter_core.stages.train.plan import TrainPlan
from painter_core.tables.records import read_manifest
from painter_core.text.tokenizer import load_tokenizer
from painter_core.training.card import model_card
from painter_core.training.checkpoints import publish, save_checkpoint
from painter_core.training.data_order import dropped_captions, epoch_order, rank_share
from painter_core.training.gpt import flops_per_sample, start_from_codebook, train_step, validate
from painter_core.training.metrics import MetricsLog
from painter_core.training.optimizers import learning_rate, make_optimizers, set_learning_rate
from painter_core.training.samples import Samples
from painter_core.training.window import Window
from painter_core.training.worker import Worker

log = logging.getLogger(__name__)

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # dense bf16, from the data sheets


class _Run:
    """A worker's model, optimizer, data and position."""

    def __init__(self, plan: TrainPlan) -> None:
        self.plan, self.config = plan, plan.config
        self.worker = this_worker(self.config.precision)
        self.tokenizer = load_tokenizer(plan.tokenizer_dir)
        self.train = self._samples(plan.train_table, 0)
        self.valid = self._samples(plan.valid_table, 1) if plan.valid_table else None
        self.gpt = self._start_model().to(self.worker.device)
        self.optimizers = make_optimizers(self.gpt, self.config)
        self.step, self.best_loss, self.valid_loss, self.is_best = 0, float("inf"), float("nan"), False
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self.dropped: np.ndarray | None = None
        self.window = Window()
        self._resume()
        self.model = self._wrapped()

    def _samples(self, table: str, number: int) -> Samples:
        config = self.plan.gpt
        planned = {"tables_sha256": self.plan.tables_sha256[number]}
        check_pins(table, {"tables_sha256": content_sha256(read_manifest(table))}, planned)
        return open_samples(
            table, self.tokenizer, text_len=config.text_len, codebook_size=config.codebook_size
        )

    def _start_model(self) -> GPT:
        torch.manual_seed(self.config.run.random_seed)
        if name := self.config.pretrained_model_name_or_path:
            model = open_model(name)
            gpt = model.load_gpt().train()
            check_pins(name, {"pretrained_sha256": model.gpt_sha256()}, self.plan.identity)
            return gpt
        gpt = GPT(self.plan.gpt)
        start_from_codebook(gpt, open_model(self.plan.vqgan_dir).load_vqgan().quantize.embedding.weight)
        return gpt

    def _resume(self) -> None:
        found = resume_from(self.plan.root, self.worker)
        if found is None:
            return
        path, state = found
        self.gpt.load_state_dict(open_model(str(path)).load_gpt().state_dict())
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        torch.set_rng_state(state["rng"])
        self.step, self.best_loss = state["step"], state["best_loss"]
        self.valid_loss = state.get("valid_loss", self.valid_loss)  # an older version's has neither
        if "window" in state:
            self.window.load_state(state["window"])

    def _wrapped(self) -> nn.Module:
        model: nn.Module = self.gpt
        wanted = self.config.run.compile
        if wanted == "on" or (wanted == "auto" and self.worker.device.type == "cuda"):
            model = cast(nn.Module, torch.compile(model))
        if self.worker.world_size > 1:
            devices = [self.worker.device.index] if self.worker.device.type == "cuda" else None
            model = nn.parallel.DistributedDataParallel(model, device_ids=devices)
        return model

    def next_rows(self) -> tuple[int, int, np.ndarray]:
        """Epoch, position in it, and the global batch of the next step."""
        epoch, step = divmod(self.step, self.plan.steps_per_epoch)
        if self.order[0] != epoch:
            seed, share = self.config.run.random_seed, self.config.caption_dropout
            self.order = (epoch, epoch_order(seed, epoch, len(self.train)))
            self.dropped = dropped_captions(seed, epoch, len(self.train), share) if share else None
        start = step * self.plan.global_batch_size
        return epoch, start, self.order[1][start : start + self.plan.global_batch_size]

    def update(self, rows: np.ndarray) -> tuple[float, float, float]:
        """Does a step on a global batch: its learning rate, loss and gradient norm."""
        rate = learning_rate(self.config, self.step, self.plan.num_steps)
        set_learning_rate(self.optimizers, rate)
        if failpoint("train_forward", step=self.step + 1):
            self.gpt.register_forward_hook(lambda module, inputs, logits: logits * float("nan"))
        args = (self.model, self.optimizers, self.train, rows, self.config, self.worker, self.dropped)
        return rate, *train_step(*args)

    def save(self, metrics: MetricsLog | None) -> None:
        """Validates, and on rank 0 writes a checkpoint and, if it is the best one, best/."""
        self.gpt.eval()
        if self.valid is not None:
            self.valid_loss = validate(self.gpt, self.valid, self.worker, self.config.micro_batch_size)
            if metrics:  # before the checkpoint: a kill in between drops the line with the step
                metrics.log(self.step, valid_loss=self.valid_loss)
        self.gpt.train()
        if self.worker.rank == 0:
            # without a validation table the newest counts as the best
            self.is_best = self.valid is None or self.valid_loss <= self.best_loss
            if self.is_best and self.valid is not None:
                self.best_loss = self.valid_loss
            keep = self.config.run.keep_checkpoints
            path = save_checkpoint(self.plan.root, self.step, self._write, keep=keep)
            if self.is_best:
                publish(self.plan.root / "best", path)
        failpoint("train_saved", step=self.step, rank=self.worker.rank)

    def _write(self, directory: Path) -> None:
        vqgan = open_model(self.plan.vqgan_dir).path
        write_model(directory, vqgan=vqgan, gpt=self.gpt, tokenizer=self.tokenizer, card=self._card())
        (directory / "training").mkdir()
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
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "rng": torch.get_rng_state(),
            },
            directory / "training" / "state.pt",
        )

    def _card(self) -> str:
        plan = self.plan
        facts = (
            f"Step {self.step:,} of {plan.num_steps:,}, {plan.num_samples:,} training samples, global batch "
            f"{plan.global_batch_size}, precision {self.worker.precision}, validation loss "
            f"{self.valid_loss:.4f} nats a code.\nIt has no safety filter: it paints what its data shows."
        )
        return model_card("Text-to-image model", "jobs/train.py", facts, plan.identity)


def train_loop(config: dict[str, Any]) -> None:
    """The function that Ray Train runs in every worker."""
    try:
        run = _Run(config["plan"])
    except Changed as error:
        stop_training(config["plan"].root, this_worker("fp32"), str(error))
        return
    plan, worker = run.plan, run.worker
    # every worker starts to log only after all have read the checkpoint
    metrics = MetricsLog(plan.root, resume_step=run.step) if worker.rank == 0 else None
    log.info("device %s, precision %s, %d threads", worker.device, worker.precision, torch.get_num_threads())
    run.window.restart()
    while run.step < plan.num_steps:
        epoch, position, rows = run.next_rows()
        rate, loss, norm = run.update(rows)
        if not np.isfinite(loss) or not np.isfinite(norm):
            stop_training(
                plan.root,
                worker,
                f"loss {loss}, gradient norm {norm} at step {run.step + 1}: stopped before the update; "
                "the last checkpoint is good. Try a lower --learning-rate",
            )
            return
        run.step += 1
        run.window.add(loss, len(rows))
        share = rank_share(rows, worker.rank, worker.world_size).tolist()
        failpoint("train_step", step=run.step, rank=worker.rank, epoch=epoch, rows=share)
        last = run.step == plan.num_steps
        if metrics and (run.step % run.config.run.logging_steps == 0 or last):
            place = {"epoch": epoch, "position": position, **_speed(run.window, plan, worker)}
            metrics.log(run.step, train_loss=run.window.loss(), lr=rate, grad_norm=norm, **place)
            run.window = Window()
        if run.step % run.config.run.save_checkpoint_steps == 0 or last:
            run.save(metrics)
            run.window.restart()
    _finish(run, metrics)


def _speed(window: Window, plan: TrainPlan, worker: Worker) -> dict[str, float]:
    """Samples and tokens a second over all workers; the share of the GPUs' peak where it is known."""
    rate = window.speed()
    found = {"samples_per_s": rate, "tokens_per_s": rate * (plan.gpt.block_size - 1)}
    name = torch.cuda.get_device_name() if worker.device.type == "cuda" else ""
    peak = next((v for k, v in PEAK_FLOPS.items() if k in name), None)
    if peak:
        found["mfu"] = rate * flops_per_sample(plan.gpt) / (peak * worker.world_size)
    return found


def _finish(run: _Run, metrics: MetricsLog | None) -> None:
    if run.worker.rank != 0:
        return
    assert metrics is not None
    metrics.close()
    outcome = {"step": run.step, "best_valid_loss": run.best_loss, "last_valid_loss": run.valid_loss}
    finite = {k: v for k, v in outcome.items() if np.isfinite(v)}
    end_training(run.plan.root, finite)
