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
from painter_core.upscaling.lanczos import enlarged
from schemas import codes, outputs


def codes_table(row: UnitRow) -> pa.Table:
    """The part of a unit: idx, text, codes, and those of views if there are some."""
    schema = codes.schema(int(row.payload["image_len"]), int(row.payload.get("variants", 1)))
    names = [field.name for field in list(schema)[2:]]
    lists = [_codes(row, name, schema.field(name).type) for name in names]
    return pa.Table.from_arrays([*(c.combine_chunks() for c in row.table.columns), *lists], schema=schema)


def _codes(row: UnitRow, name: str, kind: pa.DataType) -> pa.Array:
    """The codes of a unit's pictures, a list each."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.frombuffer(row.payload[name], np.uint16)), type=kind)


@dataclass(frozen=True, kw_only=True)
class OutputTable:
    """Pictures -> the part's table, encoded and in base64."""

    columns: tuple[str, ...]
    """Columns of the output, in order."""
    pictures_a_row: int
    image_format: ImageFormat
    easynlp_format: bool
    scale: int = 1
    """How many times larger pictures become, by Lanczos."""
    carried: tuple[str, ...] = ()
    """Those of the columns that are the input's."""

    def __call__(self, row: UnitRow) -> pa.Table:
        each = 1 if self.easynlp_format else self.pictures_a_row
        source = np.repeat(np.arange(len(row.table)), each)  # of every output row its prompt
        prompts = row.table.take(pa.array(source, pa.int64()))
        schema = outputs.schema(self.columns, int(row.payload["image_len"]), self.carried)
        columns = []
        for name in self.columns:
            if name in self.carried:
                columns.append(prompts.column(name).combine_chunks())
            elif name == outputs.IMAGE_COLUMN:
                columns.append(pa.array(self._cells(row), pa.string()))
            elif name == outputs.CODES_COLUMN:
                columns.append(_codes(row, name, schema.field(name).type))
            elif name in outputs.NUMBERS:
                kind = schema.field(name).type
                columns.append(pa.array(np.frombuffer(row.payload[name], kind.to_pandas_dtype())))
            else:
                columns.append(prompts.column(name).combine_chunks())
        return pa.Table.from_arrays(columns, schema=schema)

    def _cells(self, row: UnitRow) -> list[str]:
        """The picture cells: one a picture, or EasyNLP's one for all of a prompt."""
        size = int(row.payload["image_size"])
        painted = np.frombuffer(row.payload["pixels"], np.uint8).reshape(-1, size, size, 3)
        pictures = (enlarged(p, self.scale) if self.scale > 1 else p for p in painted)
        if self.easynlp_format:
            made = [encode_picture(picture) for picture in pictures]
            step = self.pictures_a_row
            return [picture_cell(made[i : i + step]) for i in range(0, len(made), step)]
        images = (encode_image(picture, self.image_format) for picture in pictures)
        return [base64.b64encode(image).decode() for image in images]
