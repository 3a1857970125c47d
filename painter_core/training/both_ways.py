"""Training both ways at once: some rows of a batch go from the picture to its caption.

Which rows these are is a function of (seed, epoch, row), so it does not depend on the workers. Such a row is
the codes, then the text; its loss is of the text up to the first [PAD], which ends a caption. A caption that
fills all positions has no end, and none is learned. It is always the row's own caption: --caption-dropout is
of the rows that go from the caption to the picture, and a caption without a token stays one of those.

Shapes: B rows, K of them painted (caption to picture), L image_len, T text_len.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.compute.devices import autocast
from painter_core.flag_checks import check_range
from painter_core.models.gpt import GPT, with_text_head
from painter_core.models.text_targets import NO_TARGET, text_targets
from painter_core.training.data_order import rank_share
from painter_core.training.samples import Samples
from painter_core.training.worker import Worker


@dataclass(frozen=True, kw_only=True)
class BothWaysFlags:
    """Learning to caption too."""

    image_to_text: float = 0.0
    """Share of the samples, in each epoch others, that are learned from the picture to its caption; then
    jobs/caption.py works. With 1 the model only learns to caption, and the best one is chosen by that."""
    text_loss_weight: float | None = None
    """Weight of a caption's loss a token beside a picture's loss a code, by default 1."""

    def __post_init__(self) -> None:
        check_range("--image-to-text", self.image_to_text, 0, 1)
        check_range("--text-loss-weight", self.text_loss_weight, 0, 1000, above=True)
        if self.text_loss_weight is not None and not self.image_to_text:
            raise ValueError(
                f"--text-loss-weight {self.text_loss_weight}: goes with --image-to-text SHARE, above 0"
            )

    @property
    def weight(self) -> float:
        """Of the loss of captions."""
        return 1.0 if self.text_loss_weight is None else self.text_loss_weight

    def identity(self) -> dict[str, float]:
        """What must be the same when a run is resumed; nothing where no row is captioned, as before."""
        if not self.image_to_text:
            return {}
        return {"image_to_text": self.image_to_text, "text_loss_weight": self.weight}

    def fitted(self, gpt: GPT) -> GPT:
        """A model that can be trained so: with a text head if it is needed; one that is not trained is kept
        as it is."""
        if self.image_to_text:
            return with_text_head(gpt)
        if gpt.config.captions:
            gpt.text_head.requires_grad_(False)
        return gpt


@dataclass(frozen=True, kw_only=True)
class BothWays:
    """A task of training.gpt.update: its losses are of a code, and of a token of a caption."""

    samples: Samples
    captioned: np.ndarray
    """bool for every row of the table: which go from the picture to the caption."""
    weight: float
    """Of the second loss."""
    dropped: np.ndarray | None = None
    """bool for every row of the table: whose caption is left out where the picture is painted."""
    variants: np.ndarray | None = None
    """A number for every row of the table: which view of the picture is taken."""
    paints: bool = True
    """Whether the model does; of one that only captions, rows without a caption teach nothing."""

    @property
    def weights(self) -> tuple[float, float]:
        """Of the losses."""
        return 1.0, self.weight

    def counts(self, rows: np.ndarray) -> tuple[int, int]:
        """Codes and text ids that the losses of these rows are sums over."""
        painted, captioned = self._split(rows)
        tokens = text_targets(torch.from_numpy(self.samples.text_ids[captioned]), self.samples.pad_id)
        return len(painted) * self.samples.codes.shape[1], int((tokens != NO_TARGET).sum())

    def sums(self, model: nn.Module, rows: np.ndarray, device: torch.device) -> list[Tensor]:
        """Sums of the cross entropies over codes, and over text ids, float32 () each."""
        painted, captioned = self._split(rows)
        text, codes = self.samples.batch(painted, device, self.dropped, self.variants)
        given, shown = self.samples.batch(captioned, device, None, self.variants)
        return both_sums(model, (text, codes), (given, shown), self.samples.pad_id)

    def _split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        has_text = self.samples.text_ids[rows, 0] != self.samples.pad_id
        turned = self.captioned[rows] & has_text
        return rows[~turned & self.paints], rows[turned]


def both_sums(
    model: nn.Module, painted: tuple[Tensor, Tensor], captioned: tuple[Tensor, Tensor], pad_id: int
) -> list[Tensor]:
    """The losses of two kinds of rows, in one pass.

    Args:
        painted: text ids (K, T) and codes (K, L) of the rows to paint.
        captioned: the same of the rows to caption, (B - K, ...).
    """
    text, codes = painted
    given, shown = captioned
    idx = torch.cat((torch.cat((text, codes[:, :-1]), 1), torch.cat((shown, given[:, :-1]), 1)))
    images, texts = model(idx, len(text))  # (K, L, V), (B - K, T, W)
    # an empty sum still reaches the weights of its head: all workers reduce the same tensors
    image_loss = images.float().sum()
    if len(text):  # never compiled: their number is another one in every step
        image_loss = F.cross_entropy(images.flatten(0, 1).float(), codes.flatten(), reduction="sum")
    targets = text_targets(given, pad_id)
    return [image_loss, text_sum(texts, targets) if len(given) else texts.float().sum()]


def text_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of the cross entropies of (B, T, W) where there are targets (B, T)."""
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=NO_TARGET, reduction="sum"
    )


@torch.no_grad()
def validate_text(model: nn.Module, samples: Samples, worker: Worker, micro_batch_size: int) -> float:
    """Mean loss a token of the captions of a whole table; captions without a token are passed over."""
    rows = np.flatnonzero(samples.text_ids[:, 0] != samples.pad_id)
    share = rank_share(rows, worker.rank, worker.world_size)
    found = torch.zeros(2, device=worker.device, dtype=torch.float64)  # nats, tokens
    # every rank runs as many passes, as in validate()
    for i in range(math.ceil(math.ceil(len(rows) / worker.world_size) / micro_batch_size)):
        micro = share[i * micro_batch_size : (i + 1) * micro_batch_size]
        text, codes = samples.batch(micro if len(micro) else rows[:1], worker.device)
        with autocast(worker.device, worker.precision):
            logits = model(torch.cat((codes, text[:, :-1]), 1), 0)[1]
        targets = text_targets(text, samples.pad_id)
        sums = torch.stack((text_sum(logits, targets).double(), (targets != NO_TARGET).sum().double()))
        found += sums * bool(len(micro))
    nats, tokens = worker.total(found).tolist()
    return nats / max(tokens, 1)
