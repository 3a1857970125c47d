"""The plan: input files cut into units before any work, in the same way in every run.

A unit is a slice of an input file: whole lines of a TSV (a byte range, in a .gz one of the decompressed
stream), or rows of one Parquet row group. Planning reads a TSV once, at the speed of the disk, to know where
its lines start; of a Parquet file it reads the footer.
"""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from painter_core.files.storage import redact
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import InputFile
from painter_core.tables.parquet import parquet_columns, parquet_footer
from painter_core.tables.tsv import open_tsv
from painter_core.tables.tsv_head import tsv_start

UNIT_ROWS = 512
GPU_UNIT_ROWS = (
    2048  # where a GPU paints: it decodes one batch beside the next, and stands still between units
)
UNITS_OF_A_GPU_TABLE = 8
UNIT_BYTES = 256 * 2**20  # of encoded rows: units of large pictures have fewer rows
UNITS_OF_A_SMALL_TABLE = 32  # a table of fewer rows than 32 x 512 is cut finer, so that actors do not idle
SPREAD_UNITS = 8  # into which a table can be cut, if model calls on a CPU are to be large
MARK_ROWS = 16  # planning keeps the offset of every 16th line of a TSV: unit sizes are multiples of it
SCAN_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A slice of an input file: what is read, decoded, computed and committed as one."""

    number: int
    file: int
    """Index into the plan's files."""
    row_group: int
    """Parquet row group; 0 for a .gz, which is one stream; -1 for a TSV, which can be entered anywhere."""
    start: int
    """First byte of a TSV's lines, or first row within the row group."""
    stop: int
    """One past the last byte or row."""
    first_row: int
    """Number of the first row in the file, from 1 (physical lines in a TSV)."""
    num_rows: int
    """Rows (physical lines)."""


UNIT_FIELDS = tuple(field.name for field in fields(Unit))
unit_values = attrgetter(*UNIT_FIELDS)  # dataclasses.asdict takes 10 us, and there may be 100,000 units


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """How units are sized: about `most` rows, a multiple of `step`; below a step if rows are very large."""

    step: int
    most: int
    most_bytes: int = UNIT_BYTES

    def fitting(self, rows: int) -> int:
        """Rows to take if so many would fit most_bytes."""
        return min(self.most, rows // self.step * self.step or max(rows, MARK_ROWS))


def plan_units(
    files: list[InputFile],
    columns: Columns,
    *,
    micro_batch_size: int,
    limit: int | None,
    pictures_a_row: int = 1,
    picture_bytes: int = 0,
    large: bool = False,
) -> list[Unit]:
    """Cuts the files into units, in order.

    Units have about 512 rows, fewer in a small table, of large rows, or of rows that make many or large
    pictures, and a multiple of the micro-batch, so that few micro-batches need padding. The number of
    workers does not matter.

    Args:
        micro_batch_size: rows a model call.
        limit: rows that are planned at most.
        pictures_a_row: that are made of a row.
        picture_bytes: of one such picture, decoded.
        large: units of 2,048 rows and twice the bytes, and an eighth of a small table.

    Raises:
        ValueError: a file cannot be read, or lacks a column.
    """
    return cut_units(
        find_slices(files, columns),
        micro_batch_size=micro_batch_size,
        limit=limit,
        pictures_a_row=pictures_a_row,
        picture_bytes=picture_bytes,
        large=large,
    )


def find_slices(files: list[InputFile], columns: Columns) -> "list[_TsvSlices | _ParquetSlices]":
    """What each file can be cut into; ValueError if one cannot be read, or lacks a column."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda f: _slices(f, columns), files))


def planned_rows(slices: "list[_TsvSlices | _ParquetSlices]", limit: int | None) -> int:
    """Rows of all files, or the limit."""
    total = sum(s.num_rows for s in slices)
    return total if limit is None else min(limit, total)


def cut_units(
    slices: "list[_TsvSlices | _ParquetSlices]",
    *,
    micro_batch_size: int,
    limit: int | None,
    pictures_a_row: int = 1,
    picture_bytes: int = 0,
    large: bool = False,
    growth: int = 1,
) -> list[Unit]:
    """The units of plan_units(), of what find_slices() found.

    Args:
        growth: how many times larger a row may be in the output.
    """
    remaining = planned_rows(slices, limit)
    if remaining == 0:
        return []
    size = _unit_size(remaining, micro_batch_size, pictures_a_row, picture_bytes, large=large)
    size = replace(size, most_bytes=UNIT_BYTES // growth)
    units: list[Unit] = []
    for number, slice_ in enumerate(slices):
        for found in slice_.cut(size):
            rows = min(found["num_rows"], remaining)
            if rows == 0:
                return units
            units.append(Unit(number=len(units), file=number, **{**found, "num_rows": rows}))
            remaining -= rows
    return units


def _unit_size(
    rows: int, micro_batch_size: int, pictures_a_row: int, picture_bytes: int, *, large: bool
) -> _Rows:
    """How many rows a unit has in a table of so many."""
    unit_rows, units = (GPU_UNIT_ROWS, UNITS_OF_A_GPU_TABLE) if large else (UNIT_ROWS, UNITS_OF_A_SMALL_TABLE)
    most = max(unit_rows // pictures_a_row, micro_batch_size)
    if picture_bytes:
        most = max(min(most, (1 + large) * UNIT_BYTES // (pictures_a_row * picture_bytes)), 1)
    wanted = min(-(-rows // units), most)
    step = _step(micro_batch_size, pictures_a_row)
    if step <= most:
        return _Rows(step=step, most=min(-(-wanted // step), most // step) * step)
    # no unit holds whole micro-batches and whole marks: whole marks, just below whole micro-batches
    most = most // micro_batch_size * micro_batch_size or most
    most = max(most // MARK_ROWS, 1) * MARK_ROWS
    return _Rows(step=MARK_ROWS, most=min(-(-wanted // MARK_ROWS) * MARK_ROWS, most))


def _step(micro_batch_size: int, pictures_a_row: int) -> int:
    """Rows that make whole micro-batches of pictures, and whole marks."""
    return math.lcm(micro_batch_size // math.gcd(micro_batch_size, pictures_a_row), MARK_ROWS)


def call_rows(rows: int, most: int, least: int, pictures_a_row: int) -> int:
    """Pictures of a model call on a CPU: `most`, halved down to `least` in a table that would give fewer than
    SPREAD_UNITS units, which other workers would wait for. The number of workers does not matter."""
    while most > least and rows < SPREAD_UNITS * _step(most, pictures_a_row):
        most //= 2
    return most


class _TsvSlices:
    """Where the lines of a TSV start: `marks[i]` is the offset of data line 16 * i, the last one the end."""

    def __init__(self, marks: np.ndarray, num_rows: int, first_row: int, row_group: int) -> None:
        self.marks, self.num_rows, self.first_row, self.row_group = marks, num_rows, first_row, row_group

    def cut(self, size: _Rows) -> Iterator[dict[str, int]]:
        i, last = 0, len(self.marks) - 1
        while i < last:
            fitting = int(np.searchsorted(self.marks, self.marks[i] + size.most_bytes, "right")) - 1 - i
            rows = size.fitting(fitting * MARK_ROWS) if i + fitting < last else size.most
            j = min(i + rows // MARK_ROWS, last)
            yield {
                "row_group": self.row_group,
                "start": int(self.marks[i]),
                "stop": int(self.marks[j]),
                "first_row": self.first_row + i * MARK_ROWS,
                "num_rows": min((j - i) * MARK_ROWS, self.num_rows - i * MARK_ROWS),
            }
            i = j


class _ParquetSlices:
    """Rows of each row group, and about how many bytes the columns of a row have."""

    def __init__(self, groups: list[tuple[int, int]]) -> None:
        self.groups, self.num_rows = groups, sum(rows for rows, _ in groups)

    def cut(self, size: _Rows) -> Iterator[dict[str, int]]:
        first_row = 1
        for group, (rows, row_bytes) in enumerate(self.groups):
            step = size.fitting(size.most_bytes // max(row_bytes, 1))
            for start in range(0, rows, step):
                stop = min(start + step, rows)
                yield {
                    "row_group": group,
                    "start": start,
                    "stop": stop,
                    "first_row": first_row + start,
                    "num_rows": stop - start,
                }
            first_row += rows


def _slices(file: InputFile, columns: Columns) -> _TsvSlices | _ParquetSlices:
    if columns.codes and file.kind != "parquet":
        raise ValueError(
            f"{redact(file.path)}: codes are lists in Parquet, as jobs/generate.py --codes-column and "
            "jobs/precompute_codes.py write them; a TSV holds none"
        )
    try:
        return _parquet_slices(file, columns) if file.kind == "parquet" else _tsv_slices(file, columns)
    except OSError as error:
        raise ValueError(f"{redact(file.path)}: cannot be read: {error}") from None


def _tsv_slices(file: InputFile, columns: Columns) -> _TsvSlices:
    start, first_row, lines, end = 0, 1, 0, 0
    marks = [np.empty(0, np.int64)]
    last = b"\n"
    for block in _tsv_blocks(file):
        if end == 0:
            start, first_row = tsv_start(file, block, columns)
            lines = 1 - first_row
            marks.append(np.array([start]))
        breaks = np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + (end + 1)  # offsets of the next lines
        # breaks[i] starts data line lines + i + 1; line 0 is marked already
        # a copy: a view would keep the offset of every line
        marks.append(breaks[-(lines + 1) % MARK_ROWS :: MARK_ROWS].copy())
        lines += len(breaks)
        end += len(block)
        last = block[-1:]
    lines = max(lines + (last != b"\n"), 0) if end > start else 0
    starts = np.concatenate(marks)
    starts = starts[(starts >= start) & (starts < end)]
    starts = starts[np.diff(starts, prepend=-1) > 0]  # they are in order; the first may be there twice
    return _TsvSlices(np.append(starts, end), lines, first_row, 0 if file.kind == "tsv.gz" else -1)


def _tsv_blocks(file: InputFile) -> Iterator[bytes]:
    with open_tsv(file) as stream:
        while block := stream.read(SCAN_BYTES):
            yield block


def _parquet_slices(file: InputFile, columns: Columns) -> _ParquetSlices:
    metadata, schema = parquet_footer(file)
    read = {*parquet_columns(file, schema, columns).values()}
    return _ParquetSlices([_group_size(metadata.row_group(i), read) for i in range(metadata.num_row_groups)])


def _group_size(group: pq.RowGroupMetaData, read: set[str]) -> tuple[int, int]:
    """Rows of a row group, and the mean size of a row in bytes, of the columns that are read."""
    chunks = (group.column(i) for i in range(group.num_columns))
    size = sum(c.total_uncompressed_size for c in chunks if _top(c.path_in_schema, read))
    return group.num_rows, size // max(group.num_rows, 1)


def _top(path: str, read: set[str]) -> bool:
    return path in read or path.split(".", 1)[0] in read


def group_units(units: Iterable[Unit]) -> list[dict[str, Any]]:
    """Input rows of UnitReader, {units: fields of each}, one for the units that are read together: those of
    one Parquet row group or .gz, which can only be read from its start."""
    groups: list[list[Unit]] = []
    for unit in units:
        last = groups[-1][0] if groups else None
        if last and unit.row_group >= 0 and (unit.file, unit.row_group) == (last.file, last.row_group):
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return [
        {"units": [dict(zip(UNIT_FIELDS, unit_values(u), strict=True)) for u in group]} for group in groups
    ]
