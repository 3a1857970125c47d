"""Reading a unit: the rows of its slice, and a reject for every row that cannot be used.

Row functions raise Reject; `RejectLog` turns that into lines of the rejects table, and nothing else is
caught.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from painter_core.errors import Reject
from painter_core.files.storage import filesystem, redact
from painter_core.tables.columns import PLACE, Columns
from painter_core.tables.inputs import InputFile, check_unchanged
from painter_core.tables.parquet import column_cells, open_parquet, parquet_columns
from painter_core.tables.records import read_part
from painter_core.tables.rejects import MAX_IDX_CHARS, RejectLog
from painter_core.tables.row_checks import check_cell, check_codes_cell, check_idx, check_text
from painter_core.tables.tsv import MAX_ROW_BYTES, cells_of, is_quoted, open_tsv, split_lines
from painter_core.tables.unit_row import UnitRow
from painter_core.tables.units import Unit, group_units

BLOCK_BYTES = 64 * 2**20

Row = dict[str, Any]  # file, row, byte_offset, idx, text, the columns of Columns.extra, image
Rows = Iterator[tuple[Row, Reject | None]]
UnitRows = Iterator[tuple[Unit, Rows]]

_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True, kw_only=True)
class UnitReader:
    """Reads groups of units.

    A unit's table has file, row, byte_offset, idx, text, the columns of `columns.extra` and, if asked for,
    image: a string (base64) or binary (encoded bytes) column.
    """

    files: list[InputFile]
    columns: Columns
    stage: str
    keep_rejected: bool

    def read(self, units: Iterable[Unit]) -> Iterator[UnitRow]:
        """These units, in order, in this process."""
        for group in group_units(units):
            yield from self(group)

    def __call__(self, group: dict[str, Any]) -> Iterator[UnitRow]:
        units = [Unit(**u) for u in group["units"]]
        file = self.files[units[0].file]
        rows = self._parquet_rows if file.kind == "parquet" else self._tsv_rows
        notes: Counter[str] = Counter()
        for unit, unit_rows in rows(file, units, notes):
            result = self._read(unit, unit_rows, notes)
            check_unchanged(file)
            yield result
            notes.clear()

    def _read(self, unit: Unit, rows: Rows, notes: Counter[str]) -> UnitRow:
        log = RejectLog(stage=self.stage, keep_cell=self.keep_rejected)
        kept, rows_in = [], 0
        for row, error in rows:
            rows_in += 1
            error = error or self._problem(row)
            if error is None:
                kept.append(row)
            else:
                log.add(row, error, cell=row.get("image") if self.columns.image else None)
        notes.update(_noticed(kept, has_text=self.columns.text is not None))
        return UnitRow(
            unit=unit.number,
            rows_in=rows_in,
            table=self._table(kept),
            rejects=log.table(),
            warnings=+notes,  # a copy, of what was noticed at all
        )

    def _problem(self, row: Row) -> Reject | None:
        try:
            check_idx(row["idx"], self.columns.idx or "idx")
            if self.columns.text:
                check_text(row["text"], self.columns.text)
            if self.columns.image:
                check = check_codes_cell if self.columns.codes else check_cell
                check(row["image"], self.columns.image)
        except Reject as error:
            return error
        return None

    def _table(self, rows: list[Row]) -> pa.Table:
        kinds = [pa.string(), pa.int64(), pa.int64()]
        fields: dict[str, pa.DataType] = dict(zip(PLACE, kinds, strict=True))
        fields |= dict.fromkeys(("idx", *self.columns.named), pa.string()) | dict(self.columns.kinds or {})
        if self.columns.image:
            is_text = any(isinstance(row["image"], str) for row in rows)
            fields["image"] = pa.large_string() if is_text else pa.large_binary()
        arrays = [pa.array([row[name] for row in rows], kind) for name, kind in fields.items()]
        return pa.Table.from_arrays(arrays, list(fields))

    def _tsv_rows(self, file: InputFile, units: list[Unit], notes: Counter[str]) -> UnitRows:
        for unit, blocks in _unit_blocks(file, units):
            yield unit, self._lines(file, unit, blocks, notes)

    def _lines(self, file: InputFile, unit: Unit, blocks: Iterator[bytes], notes: Counter[str]) -> Rows:
        """Rows of whole lines; blank lines are counted as lines and are no rows."""
        name = redact(file.path)
        for number, (start, size, line, ended) in enumerate(split_lines(blocks)):
            if number == unit.num_rows:
                return  # --limit
            place = self._place(name, unit.first_row + number, unit.start + start)
            line = line.removesuffix(b"\r")
            if size > MAX_ROW_BYTES:
                yield place, Reject("row_too_large", f"{size:,} bytes, at most {MAX_ROW_BYTES:,}")
            elif line:
                yield self._row_of_line(place, line, ended=ended)
            else:
                notes["blank_line"] += 1

    def _place(self, file: str, number: int, byte_offset: int | None) -> Row:
        """Where a row comes from; its number is its idx if no column is."""
        place = {"file": file, "row": number, "byte_offset": byte_offset}
        return place if self.columns.idx else place | {"idx": str(number)}

    def _row_of_line(self, place: Row, line: bytes, *, ended: bool) -> tuple[Row, Reject | None]:
        schema = self.columns.schema
        try:
            cells = cells_of(line.decode(self.columns.encoding), self.columns.quoting)
        except UnicodeDecodeError as error:
            idx = line.split(b"\t", 1)[0][:MAX_IDX_CHARS].decode(error.encoding, "replace")
            column = schema[min(line[: error.start].count(b"\t"), len(schema) - 1)]
            at = place["byte_offset"] + error.start
            detail = f"byte {at:,} is {line[error.start]:#04x}: {error.reason}"
            return {"idx": idx} | place, Reject("text_encoding", detail, column)
        except ValueError as error:
            return place, Reject("bad_columns", str(error))
        # what there is of a row with too few or too many cells goes into its reject
        found = dict(zip(schema, cells, strict=False))
        row = place | {ours: found.get(theirs) for ours, theirs in self.columns.named.items()}
        if len(cells) == len(schema):
            return row, None
        reason = "truncated_row" if not ended and len(cells) < len(schema) else "bad_columns"
        detail = f"{len(cells)} columns, expected {len(schema)} ({', '.join(schema)})"
        return row, Reject(reason, detail)

    def _parquet_rows(self, file: InputFile, units: list[Unit], notes: Counter[str]) -> UnitRows:
        try:
            with _open(file) as raw, open_parquet(file.path, raw) as parquet:
                names = parquet_columns(file, parquet.schema_arrow, self.columns)
                for unit, table in _unit_tables(parquet, units, list(dict.fromkeys(names.values()))):
                    yield unit, self._rows_of_table(file, unit, table, names)
        except (pa.ArrowException, OSError) as error:
            check_unchanged(file)
            where = f"{redact(file.path)} row group {units[0].row_group}"
            raise ValueError(f"{where}: damaged Parquet: {error}; write the file again") from None

    def _rows_of_table(self, file: InputFile, unit: Unit, table: pa.Table, names: dict[str, str]) -> Rows:
        as_they_are = {name for name, kind in (self.columns.kinds or {}).items() if kind != pa.string()}
        cells = {
            ours: table.column(theirs).to_pylist()
            if ours in as_they_are
            else column_cells(table.column(theirs))
            for ours, theirs in names.items()
        }
        # bytes are right in a binary column; among strings they are what is not UTF-8
        strings = [
            ours for ours, column in cells.items() if _is_text(ours, column) and ours not in as_they_are
        ]
        for i in range(unit.num_rows):
            row = self._place(redact(file.path), unit.first_row + i, None)
            row |= {ours: column[i] for ours, column in cells.items()}
            error = None
            for ours in strings:
                if isinstance(row[ours], bytes):
                    error = Reject("text_encoding", f"not UTF-8: {row[ours][:16]!r}", names[ours])
                    row[ours] = row[ours].decode("utf-8", "replace")
            yield row, error


def _noticed(kept: list[Row], *, has_text: bool) -> Counter[str]:
    """How often each of schemas.rejects.WARNINGS applies to rows that are kept."""
    texts = [row["text"] for row in kept] if has_text else []
    found = Counter(idx_repeated=len(kept) - len({row["idx"] for row in kept}))
    found["idx_invisible"] = sum(bool(_INVISIBLE.search(row["idx"])) for row in kept)
    found["text_invisible"] = sum(bool(_INVISIBLE.search(text)) for text in texts)
    found["text_formula"] = sum(text.startswith(("=", "+", "-", "@")) for text in texts)
    found["text_quoted"] = sum(is_quoted(text) for text in texts)
    found["text_number"] = sum(text.isdecimal() for text in texts)
    return found


def _open(file: InputFile) -> BinaryIO:
    """A Parquet file; a part of ours whole, its sha256 compared (it has one row group)."""
    if file.sha256:
        return io.BytesIO(read_part(file.path, file.sha256))
    fs, path = filesystem(file.path)
    return fs.open(path, "rb")


def _unit_blocks(file: InputFile, units: list[Unit]) -> Iterator[tuple[Unit, Iterator[bytes]]]:
    """The bytes of each unit, in blocks."""
    if file.kind != "tsv.gz":
        fs, path = filesystem(file.path)
        for unit in units:
            cuts = [*range(unit.start, unit.stop, BLOCK_BYTES), unit.stop]
            yield unit, (fs.cat_file(path, start=start, end=stop) for start, stop in pairwise(cuts))
        return
    with open_tsv(file) as stream:
        for unit in units:
            stream.seek(unit.start)  # forward: what committed units hold is passed over
            sizes = [BLOCK_BYTES] * ((unit.stop - unit.start) // BLOCK_BYTES)
            sizes.append((unit.stop - unit.start) % BLOCK_BYTES)
            yield unit, (stream.read(size) for size in sizes)


def _unit_tables(
    parquet: pq.ParquetFile, units: list[Unit], columns: list[str]
) -> Iterator[tuple[Unit, pa.Table]]:
    """The rows of each unit of one row group, which is read once from its start, piece by piece."""
    length = max(u.stop - u.start for u in units)
    batches = parquet.iter_batches(length, row_groups=[units[0].row_group], columns=columns)
    held: list[pa.RecordBatch] = []
    first = last = 0  # positions in the row group of what is held
    for unit in units:
        while last < unit.stop:
            held.append(next(batches))
            last += len(held[-1])
            while held and first + len(held[0]) <= unit.start:
                first += len(held.pop(0))
        yield unit, pa.Table.from_batches(held).slice(unit.start - first, unit.stop - unit.start)


def _is_text(ours: str, column: list[str | bytes | None]) -> bool:
    return ours != "image" or any(isinstance(value, str) for value in column)
