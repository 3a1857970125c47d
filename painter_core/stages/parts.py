"""The parts' tables of precompute and generate, made of a unit's row as its model operator left it.

Apart from the models, so that the processes that write parts do not import torch.
"""

import base64
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from painter_core.easynlp.output import encode_picture, picture_cell
from painter_core.images.decode import ImageFormat, encode_image
from painter_core.tables.unit_row import UnitRow
from schemas import codes, outputs


def codes_table(row: UnitRow) -> pa.Table:
    """The part of a unit: idx, text, codes."""
    table = row.table
    flat = pa.array(np.frombuffer(row.payload["codes"], np.uint16))
    image_len = len(flat) // len(table) if len(table) else int(row.payload["image_len"])
    schema = codes.schema(image_len)
    lists = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("codes").type)
    return pa.Table.from_arrays([*(c.combine_chunks() for c in table.columns), lists], schema=schema)


@dataclass(frozen=True, kw_only=True)
class OutputTable:
    """Pictures -> the part's table, encoded and in base64."""

    columns: tuple[str, ...]
    """Columns of the output, in order."""
    max_generated_num: int
    image_format: ImageFormat
    easynlp_format: bool

    def __call__(self, row: UnitRow) -> pa.Table:
        samples = self.max_generated_num
        size = int(row.payload["image_size"])
        pictures = np.frombuffer(row.payload["pixels"], np.uint8).reshape(-1, size, size, 3)
        rows = []
        for i, line in enumerate(row.table.to_pylist()):
            cells = self._cells(pictures[i * samples : (i + 1) * samples])
            for sample, cell in enumerate(cells):
                rows.append(line | {outputs.IMAGE_COLUMN: cell, outputs.SAMPLE_COLUMN: sample})
        return pa.Table.from_pylist(rows, schema=outputs.schema(self.columns))

    def _cells(self, pictures: np.ndarray) -> list[str]:
        """The picture cells of a prompt: one a picture, or EasyNLP's one for all."""
        if self.easynlp_format:
            return [picture_cell([encode_picture(picture) for picture in pictures])]
        images = (encode_image(picture, self.image_format) for picture in pictures)
        return [base64.b64encode(image).decode() for image in images]
