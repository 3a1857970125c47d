"""What keeps a model from learning few pictures by heart: flags, all off by default, and their noise.

The noise of a row is a function of (seed, epoch, row): a run that is resumed, or has other workers, sees the
same. Shapes: B rows, L codes of a picture.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from painter_core.flag_checks import check_range
from painter_core.models.dropout import mixed, random_bits
from painter_core.training.data_order import drawn_variants, dropped_captions, row_keys
from painter_core.training.run_flags import BOUND_IF_SET
from painter_core.training.samples import Samples


@dataclass(frozen=True, kw_only=True)
class RegularisationFlags:
    """For few pictures (docs/FINE_TUNING.md)."""

    pkeep: float = field(default=1.0, metadata=BOUND_IF_SET)
    """Share of the codes that the model sees as they are; the others are replaced by random ones, in each
    epoch others. What it is to predict stays."""
    dropout: float = field(default=0.0, metadata=BOUND_IF_SET)
    """Share of the embeddings, attention weights and outputs of layers that is dropped in training."""
    label_smoothing: float = field(default=0.0, metadata=BOUND_IF_SET)
    """Share of the probability that is to be spread evenly over all codes; valid_loss is without it."""
    ema_decay: float = field(default=0.0, metadata=BOUND_IF_SET)
    """Validate and save a moving average of the weights, such as 0.999; the first averages follow faster."""
    patience: int | None = field(default=None, metadata=BOUND_IF_SET)
    """Stop when so many validations in succession were no better than the best one."""

    def __post_init__(self) -> None:
        check_range("--pkeep", self.pkeep, 0, 1)
        check_range("--dropout", self.dropout, 0, 0.9)
        check_range("--label-smoothing", self.label_smoothing, 0, 0.9)
        check_range("--ema-decay", self.ema_decay, 0, 0.999999)
        check_range("--patience", self.patience, 1, 10**6)

    @property
    def needs_keys(self) -> bool:
        """Whether rows have noise."""
        return self.pkeep < 1 or self.dropout > 0


NO_NOISE = RegularisationFlags()


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What is drawn for each row of a table in an epoch."""

    dropped: np.ndarray | None = None
    """bool (n,): whose caption is left out."""
    keys: np.ndarray | None = None
    """int32 (n,): from which a row's noise follows."""
    variants: np.ndarray | None = None
    """int64 (n,): which view of the picture is seen."""

    def keys_of(self, rows: np.ndarray, device: torch.device) -> Tensor | None:
        """int32 (B,), of some rows."""
        return None if self.keys is None else torch.from_numpy(self.keys[rows]).to(device)


NOTHING_DRAWN = Draws()


def draws_of(
    flags: RegularisationFlags, samples: Samples, *, seed: int, epoch: int, caption_dropout: float
) -> Draws:
    """The draws of an epoch; what is off costs nothing."""
    num_samples, variants = len(samples), samples.variants
    return Draws(
        dropped=dropped_captions(seed, epoch, num_samples, caption_dropout) if caption_dropout else None,
        keys=row_keys(seed, epoch, num_samples) if flags.needs_keys else None,
        variants=drawn_variants(seed, epoch, num_samples, variants) if variants > 1 else None,
    )


def partly_replaced(codes: Tensor, keys: Tensor, pkeep: float, codebook_size: int) -> Tensor:
    """Codes (B, L), of which all but the share `pkeep` are random ones.

    Args:
        codes: int64.
        keys: int32 (B,).
    """
    shape = tuple(codes.shape)
    stays = random_bits(mixed(keys, -1), shape) < min(round(pkeep * 2**32), 2**32 - 1) - 2**31
    others = random_bits(mixed(keys, -2), shape).long() % codebook_size  # not negative: as Python's
    return torch.where(stays, codes, others)
