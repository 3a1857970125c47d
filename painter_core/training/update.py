"""One step of a training, whose loss a GPU may still be computing."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Update:
    """What was done in a step."""

    step: int
    rows: np.ndarray
    """Of the global batch."""
    place: dict[str, int]
    """Epoch, and position in it."""
    rate: float
    loss: float | Tensor
    norm: float | Tensor
