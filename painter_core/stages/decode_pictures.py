"""Decoding the pictures of a table: cells of a unit -> `pixels`, uint8 (N, S, S, 3) as bytes.

Apart from precompute.py, so that the processes that run it do not import torch.
"""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from painter_core.errors import Reject
from painter_core.images.isolate import CellDecoder, decoder
from painter_core.tables.rejects import RejectLog
from painter_core.tables.unit_row import pack, unpack
from schemas import rejects


@dataclass(frozen=True, kw_only=True)
class DecodePictures:
    """CPU operator: the cells of a unit -> pixels."""

    decode: CellDecoder
    column: str
    """The picture's, as rejects name it."""
    keep_rejected: bool
    in_child: bool | None = None
    """Whether to decode in another process; by default from the second attempt on."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        table = unpack(row["table"])
        log = RejectLog(stage="precompute", keep_cell=self.keep_rejected)
        notes = Counter(json.loads(row["warnings"]))
        kept: list[int] = []
        size = self.decode.image_size
        pixels = np.empty((len(table), size, size, 3), np.uint8)
        with decoder(self.decode, in_child=self.in_child) as decode:
            for i, line in enumerate(table.to_pylist()):
                try:
                    pixels[len(kept)] = decode(line["image"], notes, row=line["row"])
                    kept.append(i)
                except Reject as error:
                    error.column = self.column
                    log.add(line, error, cell=line["image"])
        all_rejects = pa.concat_tables([unpack(row["rejects"]), log.table()])
        return {
            "unit": row["unit"],
            "rows_in": row["rows_in"],
            "warnings": json.dumps(notes),
            "table": pack(table.select(["idx", "text"]).take(pa.array(kept, pa.int64()))),
            "rejects": pack(all_rejects.sort_by("row").cast(rejects.SCHEMA)),
            "pixels": pixels[: len(kept)].tobytes(),
        }
