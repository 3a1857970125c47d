"""Reading a unit: the rows of its slice, and a reject for every row that cannot be used.

A unit travels through Ray as one row, its rows in one cell as an Arrow IPC stream: it cannot be split, merged or half
retried, whatever Ray fuses or bundles. Row functions raise Reject; `RejectLog` turns that into lines of the rejects
table, and nothing else is caught.
"""

import gzip
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from painter_core.rejects import Reject
from painter_core.stages.plan import Unit
from painter_core.stages.tables import Columns, InputFile, parquet_columns
from painter_core.storage import filesystem, redact
from schemas import rejects

MAX_ROW_BYTES = 64 * 2**20
MAX_IDX_CHARS = 1024
TEXT_KEPT_CHARS = 200  # of the caption, in a reject


def pack(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(data: bytes) -> pa.Table:
    """The table of an Arrow IPC stream, without copying."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_all()


@dataclass(kw_only=True)
class RejectLog:
    """The rejects of one unit."""

    stage: str
    keep_cell: bool = False
    lines: list[dict[str, Any]] = field(default_factory=list)

    def add(self, place: dict[str, Any], error: Reject, *, cell: str | bytes | None = None) -> None:
        """Sets a row aside. `place`: file, row, byte_offset and, where known, idx and text."""
        text = place.get("text")
        self.lines.append(
            {
                "stage": self.stage,
                "file": place["file"],
                "row": place["row"],
                "byte_offset": place["byte_offset"],
                "idx": place.get("idx"),
                "column": error.column,
                "reason": error.reason,
                "detail": error.detail,
                "text": text if text is None else text[:TEXT_KEPT_CHARS],
                "cell": (cell.encode("utf-8", "replace") if isinstance(cell, str) else cell)
                if self.keep_cell
                else None,
            }
        )

    def table(self) -> pa.Table:
        """Lines of the rejects table."""
        return pa.Table.from_pylist(self.lines, schema=rejects.SCHEMA)


@dataclass(frozen=True, kw_only=True)
class UnitReader:
    """Reads groups of units: one output row a unit, {unit, rows_in, table, rejects}.

    The table has file, row, byte_offset, idx, text, the columns of `columns.extra` and, if asked for, image: a string
    (base64) or binary (encoded bytes) column.
    """

    files: list[InputFile]
    columns: Columns
    stage: str
    keep_rejected: bool

    def __call__(self, group: dict[str, Any]) -> Iterator[dict[str, Any]]:
        units = [Unit(**u) for u in group["units"]]
        file = self.files[units[0].file]
        source = self._parquet_rows if file.kind == "parquet" else self._tsv_rows
        for unit, rows in source(file, units):
            log = RejectLog(stage=self.stage, keep_cell=self.keep_rejected)
            kept, rows_in = [], 0
            for row in rows:
                rows_in += 1
                image = row.get("image")
                try:
                    kept.append(self._checked(row))
                except Reject as error:
                    log.add(row, error, cell=image)
            yield {
                "unit": unit.number,
                "rows_in": rows_in,
                "table": pack(self._table(kept)),
                "rejects": pack(log.table()),
            }

    def _checked(self, row: dict[str, Any]) -> dict[str, Any]:
        if error := row.pop("error", None):
            raise error
        check_idx(row["idx"])
        check_text(row["text"])
        return row

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        fields = [("file", pa.string()), ("row", pa.int64()), ("byte_offset", pa.int64())]
        fields += [(name, pa.string()) for name in ("idx", "text", *self.columns.extra)]
        if self.columns.image:
            is_text = any(isinstance(row["image"], str) for row in rows)
            fields.append(("image", pa.large_string() if is_text else pa.large_binary()))
        return pa.Table.from_pylist(rows, schema=pa.schema(fields))

    def _tsv_rows(
        self, file: InputFile, units: list[Unit]
    ) -> Iterator[tuple[Unit, Iterator[dict[str, Any]]]]:
        for unit in units:
            yield unit, self._lines(file, unit, _read_slice(file, unit))

    def _lines(self, file: InputFile, unit: Unit, data: bytes) -> Iterator[dict[str, Any]]:
        """Rows of whole lines. Only \\n ends a line; blank lines are counted as lines and are no rows."""
        start = 0
        for number in range(unit.num_rows):
            end = data.find(b"\n", start)
            line = data[start : end if end >= 0 else None]
            place = {
                "file": redact(file.path),
                "row": unit.first_row + number,
                "byte_offset": unit.start + start,
            }
            start += len(line) + 1
            line = line.removesuffix(b"\r")
            if line:
                yield self._row_of_line(place, line, ended=end >= 0)

    def _row_of_line(self, place: dict[str, Any], line: bytes, *, ended: bool) -> dict[str, Any]:
        if len(line) > MAX_ROW_BYTES:
            return {
                **place,
                "error": Reject("row_too_large", f"{len(line):,} bytes, at most {MAX_ROW_BYTES:,}"),
            }
        try:
            cells = line.decode("utf-8").split("\t")
        except UnicodeDecodeError as error:
            idx = line.split(b"\t", 1)[0][:MAX_IDX_CHARS].decode("utf-8", "replace")
            column = self.columns.schema[min(line[: error.start].count(b"\t"), len(self.columns.schema) - 1)]
            detail = (
                f"byte {place['byte_offset'] + error.start:,} is {line[error.start]:#04x}: {error.reason}"
            )
            return {**place, "idx": idx, "error": Reject("text_encoding", detail, column)}
        named = dict(zip(self.columns.schema, cells, strict=False))
        row = {**place, "idx": named.get(self.columns.idx, ""), "text": named.get(self.columns.text, "")}
        if len(cells) != len(self.columns.schema):
            cut = not ended and len(cells) < len(self.columns.schema)
            detail = f"{len(cells)} columns, expected {len(self.columns.schema)} ({', '.join(self.columns.schema)})"
            return {**row, "error": Reject("truncated_row" if cut else "bad_columns", detail)}
        row.update({name: named[name] for name in self.columns.extra})
        if self.columns.image:
            row["image"] = named[self.columns.image]
        return row

    def _parquet_rows(
        self, file: InputFile, units: list[Unit]
    ) -> Iterator[tuple[Unit, Iterator[dict[str, Any]]]]:
        fs, path = filesystem(file.path)
        with fs.open(path, "rb") as raw, pq.ParquetFile(raw) as parquet:
            names = parquet_columns(file, parquet.schema_arrow, self.columns)
            size = max(u.stop - u.start for u in units)
            batches = parquet.iter_batches(
                size, row_groups=[units[0].row_group], columns=list(set(names.values()))
            )
            held, first = (
                pa.table({n: pa.array([], parquet.schema_arrow.field(n).type) for n in set(names.values())}),
                0,
            )
            for unit in units:
                while first + len(held) < unit.stop:
                    # drop what lies before the unit, then read on: committed units are passed over
                    held, first = _drop(held, first, unit.start)
                    held = pa.concat_tables(
                        [held, pa.Table.from_batches([next(batches)]).select(held.column_names)]
                    )
                held, first = _drop(held, first, unit.start)
                yield unit, self._rows_of_table(file, unit, held.slice(0, unit.stop - unit.start), names)

    def _rows_of_table(
        self, file: InputFile, unit: Unit, table: pa.Table, names: dict[str, str]
    ) -> Iterator[dict[str, Any]]:
        cells = {ours: _cells(table.column(theirs)) for ours, theirs in names.items()}
        for i in range(min(len(table), unit.num_rows)):
            row: dict[str, Any] = {"file": redact(file.path), "row": unit.first_row + i, "byte_offset": None}
            row.update(idx=cells[self.columns.idx][i], text=cells[self.columns.text][i])
            row.update({name: cells[name][i] for name in self.columns.extra})
            if self.columns.image:
                row["image"] = cells[self.columns.image][i]
            yield row


def _read_slice(file: InputFile, unit: Unit) -> bytes:
    fs, path = filesystem(file.path)
    if file.kind == "tsv.gz":
        with fs.open(path, "rb") as raw, gzip.open(raw) as stream:
            return stream.read()[unit.start : unit.stop]
    return fs.cat_file(path, start=unit.start, end=unit.stop)


def _drop(held: pa.Table, first: int, start: int) -> tuple[pa.Table, int]:
    """Rows from `start` on; `first` is the position of the table's first row in its row group."""
    skip = min(max(start - first, 0), len(held))
    return held.slice(skip), first + skip


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """Values as str, bytes or None."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_struct(column.type):
        return [None if v is None else v["bytes"] for v in column.to_pylist()]
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    return column.to_pylist()


def check_idx(idx: str | None) -> None:
    """Raises Reject unless idx can be a key in any output table."""
    if not idx:
        raise Reject("idx_invalid", "null or empty", "idx")
    if len(idx) > MAX_IDX_CHARS:
        raise Reject("idx_invalid", f"{len(idx):,} characters, at most {MAX_IDX_CHARS:,}", "idx")
    if any(c in idx for c in "\t\r\n"):
        raise Reject("idx_invalid", "holds a tab or a line end", "idx")


def check_text(text: str | None) -> None:
    """Raises Reject for a caption that shows nothing: null, blank, or format characters only."""
    if not text or all(c.isspace() or unicodedata.category(c) in ("Cf", "Cc") for c in text):
        raise Reject("text_empty", "null, blank or invisible characters only", "text")


def map_unit(
    row: dict[str, Any], log: RejectLog, keep: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Applies `keep` to every row of a unit; rows that raise Reject go to the log."""
    kept = []
    for line in unpack(row["table"]).to_pylist():
        try:
            kept.append(keep(line))
        except Reject as error:
            log.add(line, error, cell=line.get("image"))
    return kept
