"""A batch of fixed size run in pieces, as many rows at once as the memory takes."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)


OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU's memory was too small: torch's allocator has an error of its own for it, the driver and
    CUDA's libraries only say so."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return ("CUDA" in text or "CUBLAS" in text or "CUDNN" in text) and any(t in text for t in OUT_OF_MEMORY)


def filled(batch: Tensor, rows: int) -> Tensor:
    """A batch with its last row repeated until it has so many."""
    missing = rows - len(batch)
    return torch.cat((batch, batch[-1:].expand(missing, *batch.shape[1:]))) if missing > 0 else batch


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
            RuntimeError: not even one row fits, or another fault of the work.
        """
        while True:
            try:
                return torch.cat([work(*p) for p in zip(*(t.split(self.rows) for t in batch), strict=True)])
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.rows == 1:
                    raise
                half = self.rows // 2
                self.rows = -(-self._whole // -(-self._whole // half))  # as equal as they can be
                log.warning("out of GPU memory: going on with %d rows a model call", self.rows)
            torch.cuda.empty_cache()  # outside the handler, which holds the failed call's tensors

    def _divisor(self, most: int) -> int:
        """The largest divisor of the batch's rows up to `most`."""
        return max(n for n in range(1, most + 1) if self._whole % n == 0)
