"""Training a GPT on few pictures in this process, as jobs/train.py would; for benchmarks/few_pictures.py."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from painter_core.models.gpt import GPT
from painter_core.models.low_rank import merged
from painter_core.training.data_order import epoch_order, steps_per_epoch
from painter_core.training.gpt import train_step, validate
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import learning_rate, make_optimizers, set_learning_rate
from painter_core.training.regularisation import Draws, draws_of
from painter_core.training.samples import Samples
from painter_core.training.trained import Trained
from painter_core.training.worker import Worker

VALIDATIONS = 10


@dataclass(kw_only=True)
class Fit:
    """What came of a training."""

    last: GPT
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights with the lowest validation loss."""
    best_step: int = 0
    curve: list[list[float]] = field(default_factory=list)
    """(step, training loss, validation loss)."""
    ms_per_step: float = 0.0
    trained: int = 0
    """Weights that were trained."""


def steps_of(config: TrainConfig, samples: Samples) -> Iterator[tuple[np.ndarray, Draws]]:
    """Rows and draws of each step, without end."""
    flags, share, batch = config.regularisation, config.caption_dropout, config.micro_batch_size
    seed, size = config.run.random_seed, len(samples)
    for epoch in range(10**9):
        order = epoch_order(seed, epoch, size)
        draws = draws_of(flags, samples, seed=seed, epoch=epoch, caption_dropout=share)
        for step in range(steps_per_epoch(size, batch)):
            yield order[step * batch : (step + 1) * batch], draws


def fit(
    gpt: GPT, config: TrainConfig, samples: Samples, valid: Samples, worker: Worker, num_steps: int
) -> Fit:
    """Trains so many steps, with ten validations."""
    trained = Trained(gpt, config, worker)
    trained.spread()
    optimizers, data = make_optimizers(gpt, config, worker.precision), steps_of(config, samples)
    losses, lowest, seconds, found = list[float](), float("inf"), 0.0, Fit(last=gpt)
    for step in range(1, num_steps + 1):
        began = time.perf_counter()
        set_learning_rate(optimizers, learning_rate(config, step - 1, num_steps))
        rows, draws = next(data)
        losses.append(float(train_step(gpt, optimizers, samples, rows, config, worker, draws)[0]))
        trained.follow(step)
        seconds += time.perf_counter() - began
        if step % max(1, num_steps // VALIDATIONS) == 0 or step == num_steps:
            loss = validate(trained.saved, valid, worker, len(valid))
            found.curve.append([step, round(float(np.mean(losses)), 4), round(loss, 4)])
            losses.clear()
            if loss < lowest:
                lowest, found.best_step = loss, step
                found.best = {k: v.clone() for k, v in merged(trained.saved).state_dict().items()}
    found.last, found.ms_per_step = merged(trained.saved), round(1000 * seconds / num_steps, 2)
    found.trained = sum(p.numel() for p in gpt.parameters() if p.requires_grad)
    return found


def usable(state: dict[str, Tensor], like: GPT) -> GPT:
    """A GPT with some weights, on the device of another one."""
    gpt = GPT(like.config).to(like.pos_emb.device)
    gpt.load_state_dict(state)
    return gpt


def started(state_file: str, like: GPT) -> GPT:
    """The GPT that was saved in a file."""
    like.load_state_dict(torch.load(state_file, map_location="cpu", weights_only=True))
    return like
