"""A batch of fixed size run in pieces, as many rows at once as the memory takes."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class Pieces:
    """Runs a model over batches of one size in pieces: equal if possible, smaller after lack of GPU memory.

    Args:
        rows: rows of a batch.
        most: rows of a piece at most; by default a piece is a whole batch.
    """

    def __init__(self, rows: int, most: int | None = None) -> None:
        self._whole = rows
        most = min(most or rows, rows)
        equal = self._divisor(most)
        self.rows = equal if 2 * equal > most else most  # 131 rows: 128 and 3, not single ones

    def run(self, work: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """work(*pieces of the batch), one after the other, as one tensor.

        Raises:
            torch.OutOfMemoryError: not even one row fits.
        """
        while True:
            try:
                return torch.cat([work(*p) for p in zip(*(t.split(self.rows) for t in batch), strict=True)])
            except torch.OutOfMemoryError:
                if self.rows == 1:
                    raise
                self.rows = self._divisor(self.rows // 2)
                log.warning("out of GPU memory: going on with %d rows a model call", self.rows)
            torch.cuda.empty_cache()  # outside the handler, which holds the failed call's tensors

    def _divisor(self, most: int) -> int:
        """The largest divisor of the batch's rows up to `most`."""
        return max(n for n in range(1, most + 1) if self._whole % n == 0)
