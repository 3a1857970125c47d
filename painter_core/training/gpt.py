"""Training the GPT on cached codes: start, one step, validation. Knows nothing of Ray.

A step sees one global batch: every rank takes its share, cut into micro-batches; gradients of the mean loss
over all codes of the global batch, whatever the number of ranks and however uneven the shares.
"""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from painter_core.compute.devices import autocast
from painter_core.models.gpt import GPT, INIT_STD, GPTConfig
from painter_core.training.data_order import rank_share
from painter_core.training.gpt_config import MICRO_BATCH, TrainConfig
from painter_core.training.optimizers import can_skip_on_device, step_if_finite
from painter_core.training.regions import cross_entropy_sum
from painter_core.training.regularisation import (
    NO_NOISE,
    NOTHING_DRAWN,
    Draws,
    RegularisationFlags,
    partly_replaced,
)
from painter_core.training.samples import Samples
from painter_core.training.sharding import whole_tensor
from painter_core.training.worker import Worker

CODEBOOK_SHARE = 0.95  # of the codebook in a new embedding; the rest is random, or equal ones never part


@torch.no_grad()
def start_from_codebook(model: GPT, codebook: Tensor) -> None:
    """Gives a new GPT code embeddings and output weights whose distances follow the VQGAN's codebook.

    What it learns of one code then holds for its neighbours from the start: the training sample's validation
    loss is 0.4 nats a code lower after 800 steps.

    Args:
        codebook: (codebook_size, embed_dim), the VQGAN's.
    """
    entries = (codebook - codebook.mean(0)) / codebook.std(0).clamp(min=1e-6)
    for weight in (model.tok_emb.weight[: len(codebook)], model.head.weight):
        # random directions keep lengths: the weights stay about as large as those of any other start
        directions = torch.randn(entries.shape[1], weight.shape[1]) / entries.shape[1] ** 0.5
        own = torch.randn_like(weight) * (1 - CODEBOOK_SHARE**2) ** 0.5
        weight.copy_(INIT_STD * (CODEBOOK_SHARE * entries @ directions + own))


def loss_sum(model: nn.Module, text: Tensor, codes: Tensor) -> Tensor:
    """Sum of the cross entropies of all codes, float32."""
    logits = model(torch.cat((text, codes[:, :-1]), dim=1))  # (B, image_len, V)
    return cross_entropy_sum(model, logits, codes)


def noisy_loss_sum(
    model: nn.Module,
    text: Tensor,
    codes: Tensor,
    keys: Tensor | None,
    flags: RegularisationFlags,
    codebook_size: int,
) -> Tensor:
    """The same as training sees it, with the noise that follows from keys (B,), if there are any."""
    seen = codes[:, :-1]
    if keys is not None and flags.pkeep < 1:
        seen = partly_replaced(seen, keys, flags.pkeep, codebook_size)
    idx = torch.cat((text, seen), dim=1)
    logits = model(idx) if keys is None else model(idx, None, keys)  # (B, image_len, V)
    return cross_entropy_sum(model, logits, codes, flags.label_smoothing)


class Task(Protocol):
    """What a step learns: one loss or several, each a mean over what `counts` counts in the global batch."""

    @property
    def weights(self) -> Sequence[float]:
        """Weight of each loss."""

    def counts(self, rows: np.ndarray) -> Sequence[int]:
        """What each loss of these rows is a sum over."""

    def sums(self, model: nn.Module, rows: np.ndarray, device: torch.device) -> list[Tensor]:
        """The sums, float32 () each."""


@dataclass(frozen=True, kw_only=True)
class Painting:
    """Every code of every row, from its caption."""

    samples: Samples
    draws: Draws = NOTHING_DRAWN
    """Of the epoch, for every row of the table."""
    flags: RegularisationFlags = NO_NOISE
    weights: tuple[float, ...] = (1.0,)

    def counts(self, rows: np.ndarray) -> tuple[int]:
        """Codes."""
        return (len(rows) * self.samples.codes.shape[1],)

    def sums(self, model: nn.Module, rows: np.ndarray, device: torch.device) -> list[Tensor]:
        """Sum of the cross entropies."""
        taken, draws = np.sort(rows), self.draws
        text, codes = self.samples.batch(taken, device, draws.dropped, draws.variants)
        keys = draws.keys_of(taken, device)
        return [noisy_loss_sum(model, text, codes, keys, self.flags, self.samples.codebook_size)]


def train_step(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    samples: Samples,
    rows: np.ndarray,
    config: TrainConfig,
    worker: Worker,
    draws: Draws = NOTHING_DRAWN,
) -> tuple[float | Tensor, float | Tensor]:
    """One update that learns to paint: mean loss a code, and gradient norm, as update() gives them."""
    task = Painting(samples=samples, draws=draws, flags=config.regularisation)
    losses, norm = update(model, optimizers, task, rows, config, worker)
    assert losses[0] is not None
    return losses[0], norm


def update(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    task: Task,
    rows: np.ndarray,
    config: TrainConfig,
    worker: Worker,
) -> tuple[list[float | Tensor | None], float | Tensor]:
    """One update on the global batch `rows` (row numbers, the same on every rank).

    Returns:
        Each mean loss over the global batch, None for one that no row belongs to, and the gradient norm
        before clipping; of a GPU as tensors (), float64, for which nobody has waited. If one of them is not
        finite the weights were not touched.
    """
    share, counts = rank_share(rows, worker.rank, worker.world_size), task.counts(rows)
    # every rank runs as many backward passes, also when its share is smaller
    pass_rows = config.micro_batch_size or MICRO_BATCH
    passes = math.ceil(math.ceil(len(rows) / worker.world_size) / pass_rows)
    # DistributedDataParallel averages over ranks; world_size makes it the sum
    scales = [w * (worker.world_size / max(n, 1)) for w, n in zip(task.weights, counts, strict=True)]
    total = torch.zeros(len(counts), device=worker.device)
    for i in range(passes):
        micro = share[i * pass_rows : (i + 1) * pass_rows]
        with contextlib.ExitStack() as stack:
            if i + 1 < passes and isinstance(model, nn.parallel.DistributedDataParallel):
                stack.enter_context(model.no_sync())
            weight = 1.0 if len(micro) else 0.0  # an empty share still takes part in the reduction
            with autocast(worker.device, worker.precision):
                sums = task.sums(model, micro if len(micro) else rows[:1], worker.device)
                losses = [loss * weight for loss in sums]
            parts = [loss * scale for loss, scale in zip(losses, scales, strict=True)]
            torch.stack(parts).sum().backward()
        total += torch.stack(losses).detach()
    total = worker.total(total)
    found = nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    if worker.device.type == "cuda" and can_skip_on_device(optimizers, found):
        step_if_finite(optimizers, total.sum(), found)
        late = zip(total.double(), counts, strict=True)
        return [value / n if n else None for value, n in late], found.double()
    norm = float(whole_tensor(found))
    means = [value / n if n else None for value, n in zip(total.tolist(), counts, strict=True)]
    for optimizer in optimizers:
        if np.isfinite([norm, *(mean for mean in means if mean is not None)]).all():
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return [*means], norm


@torch.no_grad()
def validate(model: nn.Module, samples: Samples, worker: Worker, micro_batch_size: int) -> float:
    """Mean loss a code over a whole table."""
    share = rank_share(np.arange(len(samples)), worker.rank, worker.world_size)
    total = torch.zeros((), device=worker.device, dtype=torch.float64)
    # every rank runs as many passes: of sharded weights none can be computed alone
    for i in range(math.ceil(math.ceil(len(samples) / worker.world_size) / micro_batch_size)):
        micro = share[i * micro_batch_size : (i + 1) * micro_batch_size]
        batch = samples.batch(micro if len(micro) else np.arange(1), worker.device)
        with autocast(worker.device, worker.precision):
            total += loss_sum(model, *batch).double() * bool(len(micro))
    return float(worker.total(total)) / (len(samples) * samples.codes.shape[1])


def flops_per_sample(config: GPTConfig) -> float:
    """Operations of one training sample, forward and backward: linear layers, head and causal attention, 2 a
    multiply-add."""
    positions = config.block_size - 1
    linear = 12 * config.n_layer * config.n_embd**2 * positions
    head = config.n_embd * config.codebook_size * config.image_len
    attention = config.n_layer * config.n_embd * positions**2
    return 6.0 * (linear + head) + 6.0 * attention
