"""One update of a training, as it was done."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Update:
    """One step, whose losses a GPU may still be computing."""

    step: int
    rows: np.ndarray
    """Of the global batch."""
    place: dict[str, int]
    """Epoch, and position in it."""
    rate: float
    losses: list[float | Tensor | None]
    """A code's, and where captions are learned a token's; None for one that no row belongs to."""
    norm: float | Tensor

    def read(self) -> list[float | None]:
        """The losses, for which this waits."""
        return [None if loss is None else float(loss) for loss in self.losses]

    def problem(self) -> str | None:
        """What is not finite, as a message; None if all is well."""
        losses, norm = self.read(), float(self.norm)
        if np.isfinite([norm, *(loss for loss in losses if loss is not None)]).all():
            return None
        return (
            f"loss {', text loss '.join(map(str, losses))}, gradient norm {norm} at step {self.step}: "
            "stopped before the update; the last checkpoint is good. Try a lower --learning-rate"
        )
