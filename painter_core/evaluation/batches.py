"""A model run over many rows, a fixed number at a time, in float32.

The last batch is filled up: what is computed for a row depends neither on how many rows there are nor on
which ones, to the last bit on a CPU.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from painter_core.compute.devices import set_tf32
from painter_core.compute.pieces import Pieces


class Batches:
    """Calls `work` on tensors of `rows` rows.

    Args:
        work: tensors (rows, ...) -> a tensor (rows, ...).
        rows: of a batch; fewer a call after a GPU ran out of memory.
        device: where `work` computes.
        most: rows of a call at most; by default a call is a whole batch.
    """

    def __init__(
        self, work: Callable[..., Tensor], rows: int, device: torch.device, most: int | None = None
    ) -> None:
        self._work, self._rows, self._device, self._pieces = work, rows, device, Pieces(rows, most)

    @torch.inference_mode()
    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        """`work` of all rows of the arrays, as one array; there must be at least one row."""
        set_tf32("fp32")  # a setting of the whole process, in which a painter may have allowed tf32
        found = []
        for start in range(0, len(arrays[0]), self._rows):
            batch = [self._filled(array[start : start + self._rows]) for array in arrays]
            found.append(self._pieces.run(self._work, *batch).cpu().numpy())
        return np.concatenate(found)[: len(arrays[0])]

    def _filled(self, rows: np.ndarray) -> Tensor:
        full = np.zeros((self._rows, *rows.shape[1:]), rows.dtype)
        full[: len(rows)] = rows
        return torch.from_numpy(full).to(self._device)
