"""What every training worker runs: take up the newest checkpoint, step through the data, save, validate."""

import functools
import logging
from pathlib import Path
from typing import Any, cast

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
from painter_core.stages.train.plan import TrainPlan
from painter_core.stages.train.previews import Previews
from painter_core.stages.train.speed import speed_of
from painter_core.tables.records import read_manifest
from painter_core.text.tokenizer import load_tokenizer
from painter_core.training.card import model_card
from painter_core.training.data_order import epoch_order, rank_share
from painter_core.training.gpt import start_from_codebook, train_step, validate
from painter_core.training.metrics import MetricsLog
from painter_core.training.optimizers import learning_rate, make_optimizers, set_learning_rate
from painter_core.training.output import Output, open_output
from painter_core.training.regularisation import NOTHING_DRAWN, draws_of
from painter_core.training.samples import Samples
from painter_core.training.sharding import gathered, load_optimizer, save_moments, shard, without_moments
from painter_core.training.weight_average import WeightAverage
from painter_core.training.window import Window
from painter_core.training.worker import Worker
from painter_core.training.world_sizes import continued

log = logging.getLogger(__name__)


class _Run:
    """A worker's model, optimizer, data and position."""

    def __init__(self, plan: TrainPlan, output: Output, worker: Worker) -> None:
        self.plan, self.config, self.output, self.worker = plan, plan.config, output, worker
        with local_copy(plan.tokenizer_dir) as directory:
            self.tokenizer = load_tokenizer(directory)
        check_pins(plan.tokenizer_dir, {"tokenizer_sha256": self.tokenizer.sha256}, plan.identity)
        self.train = self._samples(plan.train_table, 0)
        self.valid = self._samples(plan.valid_table, 1) if plan.valid_table else None
        self.gpt = self._start_model()
        self.gpt.activation_checkpointing = self.config.activation_checkpointing
        self.gpt.dropout = self.config.regularisation.dropout
        decay = self.config.regularisation.ema_decay
        self.average = WeightAverage(self.gpt, decay) if decay else None
        self.is_sharded = self.config.parallel == "fsdp" and worker.world_size > 1
        self.step, self.best_loss, self.valid_loss, self.is_best = 0, float("inf"), float("nan"), False
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self.draws, self.since_best = NOTHING_DRAWN, 0
        self.window = Window()
        self.world_sizes: list[list[int]] = []
        self._resume()
        self.world_sizes = continued(self.world_sizes, self.step, worker.world_size)
        self.model = self._wrapped()

    def _samples(self, table: str, number: int) -> Samples:
        config = self.plan.gpt
        planned = {"tables_sha256": self.plan.tables_sha256[number]}
        check_pins(table, {"tables_sha256": content_sha256(read_manifest(table))}, planned)
        sizes = {"text_len": config.text_len, "codebook_size": config.codebook_size}
        return open_samples(table, self.tokenizer, **sizes, style=self.plan.style)

    def _start_model(self) -> GPT:
        torch.manual_seed(self.config.run.random_seed)
        if name := self.config.pretrained_model_name_or_path:
            model = open_model(name)
            gpt = model.load_gpt().train()
            check_pins(name, {"pretrained_sha256": model.gpt_sha256()}, self.plan.identity)
            return gpt
        gpt = GPT(self.plan.gpt)
        start_from_codebook(gpt, open_vqgan(self.plan.train_table).load_vqgan().quantize.embedding.weight)
        return gpt

    def _resume(self) -> None:
        found = resume_from(self.output, self.worker)
        if found is not None:
            self.saved_gpt.load_state_dict(open_model(str(found[0])).load_gpt().state_dict())
            if self.average:
                self.gpt.load_state_dict(found[1]["weights"])
        for gpt in (self.gpt, self.average.gpt) if self.average else (self.gpt,):
            if self.is_sharded:
                shard(gpt, self.worker)
            else:
                gpt.to(self.worker.device)
        self.optimizers = make_optimizers(self.gpt, self.config)
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
        model: nn.Module = self.gpt
        wanted = self.config.run.compile
        if wanted == "on" or (wanted == "auto" and self.worker.device.type == "cuda"):
            # a shorter last batch gets a graph of its own, and the others keep theirs
            model = cast(nn.Module, torch.compile(model, dynamic=False))
        if self.worker.world_size > 1 and not self.is_sharded:
            devices = [self.worker.device.index] if self.worker.device.type == "cuda" else None
            model = nn.parallel.DistributedDataParallel(model, device_ids=devices)
        return model

    def next_rows(self) -> tuple[int, int, np.ndarray]:
        """Epoch, position in it, and the global batch of the next step."""
        epoch, step = divmod(self.step, self.plan.steps_per_epoch)
        if self.order[0] != epoch:
            seed, flags, share = (
                self.config.run.random_seed,
                self.config.regularisation,
                self.config.caption_dropout,
            )
            count = len(self.train)
            self.order = (epoch, epoch_order(seed, epoch, count))
            self.draws = draws_of(flags, seed=seed, epoch=epoch, num_samples=count, caption_dropout=share)
        start = step * self.plan.global_batch_size
        return epoch, start, self.order[1][start : start + self.plan.global_batch_size]

    def update(self, rows: np.ndarray) -> tuple[float, float, float]:
        """Does a step on a global batch: its learning rate, loss and gradient norm."""
        rate = learning_rate(self.config, self.step, self.plan.num_steps)
        set_learning_rate(self.optimizers, rate)
        if failpoint("train_forward", step=self.step + 1):
            self.gpt.register_forward_hook(lambda module, inputs, logits: logits * float("nan"))
        args = (self.model, self.optimizers, self.train, rows, self.config, self.worker, self.draws)
        loss, norm = train_step(*args)
        if self.average and np.isfinite(loss) and np.isfinite(norm):
            self.average.follow(self.gpt, self.step + 1)
        return rate, loss, norm

    def save(self, metrics: MetricsLog | None) -> None:
        """Validates, and on rank 0 writes a checkpoint and, if it is the best one, best/."""
        gpt = self.saved_gpt.eval()
        if self.valid is not None:
            self.valid_loss = validate(gpt, self.valid, self.worker, self.config.micro_batch_size)
            if metrics:  # before the checkpoint: a kill in between drops the line with the step
                metrics.log(self.step, valid_loss=self.valid_loss)
        gpt.train()
        # without a validation table the newest counts as the best
        self.is_best = self.valid is None or self.valid_loss <= self.best_loss
        self.since_best = 0 if self.is_best else self.since_best + 1
        if self.is_best and self.valid is not None:
            self.best_loss = self.valid_loss
        whole = self.whole_gpt()
        self.weights = self._whole(self.gpt).state_dict() if self.average else {}
        if self.worker.rank == 0:
            keep = self.config.run.keep_checkpoints
            write = functools.partial(self._write, whole)
            self.output.save(self.step, write, keep=keep, is_best=self.is_best)
        elif self.is_sharded:
            save_moments(self.optimizers[0], None, self.worker)
        failpoint("train_saved", step=self.step, rank=self.worker.rank)

    @property
    def saved_gpt(self) -> GPT:
        """The GPT that is validated and saved."""
        return self.average.gpt if self.average else self.gpt

    @property
    def is_done(self) -> bool:
        """Whether all steps are done, or the last validations were in vain."""
        patience = self.config.regularisation.patience
        return self.step >= self.plan.num_steps or (patience is not None and self.since_best >= patience)

    def whole_gpt(self) -> GPT:
        """That GPT with whole weights, on rank 0; all workers call it together."""
        return self._whole(self.saved_gpt)

    def _whole(self, gpt: GPT) -> GPT:
        return gathered(gpt, self.worker) if self.is_sharded else gpt

    def _write(self, gpt: GPT, directory: Path) -> None:
        vqgan = open_vqgan(self.plan.train_table).path  # as the manifest of the codes names it, still
        write_model(directory, vqgan=vqgan, gpt=gpt, tokenizer=self.tokenizer, card=self._card())
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
                **self._regularised(),
            },
            directory / "training" / "state.pt",
        )

    def _regularised(self) -> dict[str, Any]:
        """What the checkpoint holds besides, of what is on."""
        found: dict[str, Any] = {"weights": self.weights} if self.average else {}
        return (
            found if self.config.regularisation.patience is None else found | {"since_best": self.since_best}
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
    while not run.is_done:
        epoch, position, rows = run.next_rows()
        rate, loss, norm = run.update(rows)
        if not np.isfinite(loss) or not np.isfinite(norm):
            stop_training(
                run.output,
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
        if plan.previews and plan.previews.is_due(run.step, is_last=last):
            gpt = run.whole_gpt()
            if previews:
                previews.paint(gpt.to(worker.device), run.step, metrics)
            run.window.restart()
        if metrics and (run.step % run.config.run.logging_steps == 0 or last):
            place = {"epoch": epoch, "position": position, **speed_of(run.window, plan, worker)}
            place["num_workers"] = worker.world_size
            metrics.log(run.step, train_loss=run.window.loss(), lr=rate, grad_norm=norm, **place)
            run.window = Window()
        if run.step % run.config.run.save_checkpoint_steps == 0 or last:
            run.save(metrics)
            run.window.restart()
    _finish(run, metrics)


def _finish(run: _Run, metrics: MetricsLog | None) -> None:
    if run.worker.rank != 0:
        return
    assert metrics is not None
    metrics.close()
    outcome = {"step": run.step, "best_valid_loss": run.best_loss, "last_valid_loss": run.valid_loss}
    finite = {k: v for k, v in outcome.items() if np.isfinite(v)}
    run.output.end(finite | {"world_sizes": run.world_sizes})
