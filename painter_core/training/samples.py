"""Captions and codes of a table as arrays, and batches of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Captions and codes of a table, memory-mapped."""

    text_ids: np.ndarray
    """int32 (n, text_len), offset by codebook_size."""
    codes: np.ndarray
    """uint16 (n, image_len)."""
    pad_id: int
    """Text id of [PAD], which alone makes up an empty caption."""
    views: np.ndarray | None = None
    """uint16 (n, variants - 1, image_len): codes of other views of the pictures."""

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def variants(self) -> int:
        """Views of a picture, itself one of them."""
        return 1 if self.views is None else 1 + self.views.shape[1]

    @property
    def codebook_size(self) -> int:
        """Ids below this one are codes."""
        return self.pad_id

    def batch(
        self,
        rows: np.ndarray,
        device: torch.device,
        dropped: np.ndarray | None = None,
        variants: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """int64 text ids (B, text_len) and codes (B, image_len) of some rows, on the device; `dropped`, a
        bool for every row of the table, says whose caption is left out, and `variants`, a number for every
        row, which view is taken (0 is the picture itself)."""
        # a memory map is read faster in order, and the order within a batch does not matter
        order = np.sort(rows)
        text = torch.from_numpy(self.text_ids[order].astype(np.int64))
        if dropped is not None:
            text[torch.from_numpy(dropped[order])] = self.pad_id
        codes = torch.from_numpy(self._codes(order, variants).astype(np.int64))
        if device.type == "cuda":
            text, codes = text.pin_memory(), codes.pin_memory()
        return text.to(device, non_blocking=True), codes.to(device, non_blocking=True)

    def _codes(self, rows: np.ndarray, variants: np.ndarray | None) -> np.ndarray:
        """uint16 (B, image_len)."""
        codes = self.codes[rows]
        if variants is None or self.views is None:
            return codes
        taken = variants[rows]
        others = self.views[rows, np.maximum(taken, 1) - 1]
        return np.where(taken[:, None] == 0, codes, others)
