"""CPU operators of an evaluation: the cells of a unit -> what its pictures' judges read.

A unit's payload is `pictures`, a packed table with a row a picture (idx, text, row, sample, format, width,
height and the attributes), and, for the model operator (measure.py), `inception`, `clip` and `vqgan`, the
forms of picture_forms.py, or `codes`, as bytes. Without torch.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from painter_core.easynlp.output import cells_of_output
from painter_core.errors import Reject
from painter_core.evaluation.picture_forms import GOODS_PX, PictureForms
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import FORMATS
from painter_core.images.isolate import decoder
from painter_core.sample.captions import VALUES, Attributes, parse_caption
from painter_core.sample.judge import Judge
from painter_core.stages.evaluate.judging import Judging
from painter_core.tables.rejects import RejectLog
from painter_core.tables.unit_row import UnitRow, pack, unpack

MODELS = ("inception", "clip", "vqgan")


@dataclass(frozen=True, kw_only=True)
class CellRecords:
    """A cell of an output table -> the records of its pictures, uint8 (k, bytes of a record)."""

    forms: PictureForms

    def __call__(self, cell: str | bytes | None, notes: Counter[str]) -> np.ndarray:
        images = [image_of_cell(one, notes) for one in cells_of_output(cell)]
        return (
            np.stack([self.forms.record(image, notes) for image in images])
            .view(np.uint8)
            .reshape(len(images), -1)
        )


@dataclass(frozen=True, kw_only=True)
class PreparePictures:
    """A unit's cells -> the records of its pictures; a cell of EasyNLP's may hold several."""

    judging: Judging
    keep_rejected: bool
    in_child: bool | None = None
    """Whether to decode in another process; by default as in images.isolate.decoder."""

    def __call__(self, row: UnitRow) -> UnitRow:
        log = RejectLog(stage="evaluate", keep_cell=self.keep_rejected)
        forms, notes = self.judging.forms(), Counter(row.warnings)
        kept: list[int] = []
        lines: list[dict[str, Any]] = []
        found = [np.empty((0, forms.dtype.itemsize), np.uint8)]
        with decoder(CellRecords(forms=forms), in_child=self.in_child) as decode:
            for i, line in enumerate(row.table.to_pylist()):
                try:
                    wanted = self._wanted(line["text"])
                    records = decode(line["image"], notes, row=line["row"])
                except Reject as error:
                    error.column = error.column or self.judging.columns["image"]
                    log.add(line, error, cell=line["image"])
                    continue
                kept.append(i)
                found.append(records)
                place = {name: line[name] for name in ("idx", "text", "row")}
                lines += [place | wanted | {"sample": k} for k in range(len(records))]
        records = np.concatenate(found).reshape(-1).view(forms.dtype)
        for line, record in zip(lines, records, strict=True):
            line["format"] = FORMATS[record["format"]]
            line["width"], line["height"] = int(record["width"]), int(record["height"])
        done = row.keep(kept, log, ["idx", "text"])
        forms_of_models = {
            name: records[name].tobytes() for name in MODELS if name in (forms.dtype.names or ())
        }
        payload = {"pictures": pack(self._pictures(lines, records)), **forms_of_models}
        return dataclasses.replace(done, warnings=notes, payload=payload)

    def _wanted(self, text: str) -> dict[str, str]:
        """The attributes that a caption asks for, as columns."""
        if not self.judging.attributes:
            return {}
        try:
            return _columns("wanted", parse_caption(text))
        except ValueError as error:
            raise Reject("text_unscored", str(error), self.judging.columns["text"]) from None

    def _pictures(self, lines: list[dict[str, Any]], records: np.ndarray) -> pa.Table:
        if self.judging.attributes and lines:
            read = Judge(image_size=GOODS_PX).read(records["goods"])
            lines = [line | _columns("read", found) for line, found in zip(lines, read, strict=True)]
        return pa.Table.from_pylist(lines, schema=_known(self.judging))


def _columns(kind: str, found: Attributes) -> dict[str, str]:
    return {f"{kind}_{name}": getattr(found, name) for name in VALUES}


def _known(judging: Judging) -> pa.Schema:
    """Columns that need no model: the first ones of the scores table."""
    without = dataclasses.replace(judging, inception=None, clip=None, likelihood=None, reconstruction=None)
    return without.schema()


@dataclass(frozen=True, kw_only=True)
class PrepareCodes:
    """A unit of a codes table: its codes as they are."""

    judging: Judging

    def __call__(self, row: UnitRow) -> UnitRow:
        lines = [
            {"idx": line["idx"], "text": line["text"], "row": line["row"], "sample": 0}
            for line in row.table.select(["idx", "text", "row"]).to_pylist()
        ]
        pictures = pa.Table.from_pylist(lines, schema=_known(self.judging))
        codes = b"".join(row.table.column("image").to_pylist())
        kept = dataclasses.replace(row, table=row.table.select(["idx", "text"]))
        return kept.carrying(pictures=pack(pictures), codes=codes)


@dataclass(frozen=True, kw_only=True)
class ScoresPart:
    """The part of a unit: a row a picture, what models computed beside what was known before."""

    judging: Judging

    def __call__(self, row: UnitRow) -> pa.Table:
        table, schema = unpack(row.payload["pictures"]), self.judging.schema()
        for field in list(schema)[len(table.schema) :]:
            table = table.append_column(field, _column(field.type, row.payload[field.name]))
        return table.cast(schema)


def _column(kind: pa.DataType, data: bytes) -> pa.Array:
    if pa.types.is_floating(kind):
        return pa.array(np.frombuffer(data, np.float64))
    flat = pa.array(np.frombuffer(data, np.float32))
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)
