"""Decoding the pictures of a table: cells of a unit -> `pixels`, uint8 (N, S, S, 3) as bytes.

Apart from precompute.py, so that the processes that run it do not import torch.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass

import numpy as np

from painter_core.errors import Reject
from painter_core.images.isolate import CellDecoder, decoder
from painter_core.tables.rejects import RejectLog
from painter_core.tables.unit_row import UnitRow


@dataclass(frozen=True, kw_only=True)
class DecodePictures:
    """CPU operator: the cells of a unit -> pixels."""

    decode: CellDecoder
    column: str
    """The picture's, as rejects name it."""
    keep_rejected: bool
    stage: str = "precompute"
    """As rejects name it."""
    columns: tuple[str, ...] = ("idx", "text")
    """What else of a row goes on."""
    in_child: bool | None = None
    """Whether to decode in another process; by default as in images.isolate.decoder."""

    def __call__(self, row: UnitRow) -> UnitRow:
        log = RejectLog(stage=self.stage, keep_cell=self.keep_rejected)
        notes = Counter(row.warnings)
        kept: list[int] = []
        size = self.decode.image_size
        pixels = np.empty((len(row.table), size, size, 3), np.uint8)
        with decoder(self.decode, in_child=self.in_child) as decode:
            for i, line in enumerate(row.table.to_pylist()):
                try:
                    pixels[len(kept)] = decode(line["image"], notes, row=line["row"])
                    kept.append(i)
                except Reject as error:
                    error.column = self.column
                    log.add(line, error, cell=line["image"])
        decoded = row.keep(kept, log, [*self.columns]).carrying(pixels=pixels[: len(kept)].tobytes())
        return dataclasses.replace(decoded, warnings=notes)
