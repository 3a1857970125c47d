"""A decoder for tests. It imports little, since every child process that decodes imports it anew."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from painter_core.errors import Reject


@dataclass(frozen=True, kw_only=True)
class Doubler:
    """Digits -> uint8 (1, 1), twice their number."""

    def __call__(self, cell: str | bytes | None, notes: Counter[str]) -> np.ndarray:
        if not cell:
            raise Reject("img_empty", "no bytes", "picture")
        notes["b64_padding"] += 1
        print("a library talks")
        return np.array([[2 * int(cell)]], np.uint8)
