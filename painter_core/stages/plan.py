"""The plan: input files cut into units before any work, in the same way in every run.

A unit is a slice of an input file: whole lines of a TSV (a byte range), or rows of one Parquet row group.
Planning reads a TSV once, at the speed of the disk, to know where its lines start; of a Parquet file it reads
the footer.
"""

import base64
import gzip
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from painter_core.stages.tables import Columns, InputFile, parquet_columns
from painter_core.storage import filesystem, redact

log = logging.getLogger(__name__)

UNIT_ROWS = 512
UNITS_OF_A_SMALL_TABLE = 32  # a table of fewer rows than 32 x 512 is cut finer, so that actors do not idle
MARK_ROWS = 16  # planning keeps the offset of every 16th line of a TSV: unit sizes are multiples of it
SCAN_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A slice of an input file: what is read, decoded, computed and committed as one."""

    number: int
    file: int
    """Index into the plan's files."""
    row_group: int
    """Parquet row group; -1 for a TSV."""
    start: int
    """First byte of a TSV's lines, or first row within the row group."""
    stop: int
    """One past the last byte or row."""
    first_row: int
    """Number of the first row in the file, from 1 (physical lines in a TSV)."""
    num_rows: int
    """Rows (physical lines)."""


def plan_units(
    files: list[InputFile], columns: Columns, *, micro_batch_size: int, limit: int | None
) -> list[Unit]:
    """Cuts the files into units, in order.

    Units have about 512 rows, fewer in a small table, and a multiple of the micro-batch, so that few micro-batches are
    filled up. The number of workers plays no part.

    Raises:
        ValueError: a file cannot be read, or lacks a column.
    """
    with ThreadPoolExecutor(8) as pool:
        slices = list(pool.map(lambda f: _slices(f, columns), files))
    total = sum(s.num_rows for s in slices)
    remaining = total if limit is None else min(limit, total)
    small = -(-remaining // UNITS_OF_A_SMALL_TABLE)
    step = np.lcm(micro_batch_size, MARK_ROWS)
    unit_rows = int(-(-min(small, max(UNIT_ROWS, micro_batch_size)) // step) * step)
    units: list[Unit] = []
    for number, slice_ in enumerate(slices):
        for fields in slice_.cut(unit_rows):
            rows = min(fields["num_rows"], remaining)
            if rows == 0:
                return units
            units.append(Unit(number=len(units), file=number, **{**fields, "num_rows": rows}))
            remaining -= rows
    return units


class _TsvSlices:
    """Where the lines of a TSV start: `marks[i]` is the offset of data line 16 * i."""

    def __init__(self, marks: list[int], end: int, num_rows: int, first_row: int) -> None:
        self.marks, self.end, self.num_rows, self.first_row = marks, end, num_rows, first_row

    def cut(self, unit_rows: int) -> Iterator[dict[str, int]]:
        step = unit_rows // MARK_ROWS
        for i in range(0, len(self.marks), step):
            start, row = self.marks[i], i * MARK_ROWS
            stop = self.marks[i + step] if i + step < len(self.marks) else self.end
            rows = min(unit_rows, self.num_rows - row)
            yield {
                "row_group": -1,
                "start": start,
                "stop": stop,
                "first_row": self.first_row + row,
                "num_rows": rows,
            }


class _GzipSlices:
    """A .gz is one unit: it cannot be entered in the middle."""

    def __init__(self, num_rows: int, end: int, start: int, first_row: int) -> None:
        self.num_rows, self.end, self.start, self.first_row = num_rows, end, start, first_row

    def cut(self, unit_rows: int) -> Iterator[dict[str, int]]:
        if self.num_rows:
            yield {
                "row_group": -1, "start": self.start, "stop": self.end,
                "first_row": self.first_row, "num_rows": self.num_rows,
            }  # fmt: skip


class _ParquetSlices:
    """Rows of each row group."""

    def __init__(self, group_rows: list[int]) -> None:
        self.group_rows, self.num_rows = group_rows, sum(group_rows)

    def cut(self, unit_rows: int) -> Iterator[dict[str, int]]:
        first_row = 1
        for group, rows in enumerate(self.group_rows):
            for start in range(0, rows, unit_rows):
                stop = min(start + unit_rows, rows)
                yield {
                    "row_group": group, "start": start, "stop": stop,
                    "first_row": first_row + start, "num_rows": stop - start,
                }  # fmt: skip
            first_row += rows


def _slices(file: InputFile, columns: Columns) -> _TsvSlices | _GzipSlices | _ParquetSlices:
    return _parquet_slices(file, columns) if file.kind == "parquet" else _tsv_slices(file, columns)


def _tsv_slices(file: InputFile, columns: Columns) -> _TsvSlices | _GzipSlices:
    start, first_row, marks, lines, end = 0, 1, [], 0, 0
    last = b"\n"
    for block in _tsv_blocks(file):
        if end == 0:
            start, first_row = _head(file, block, columns)
            marks = [start]
            lines = -(first_row - 1)
        breaks = np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + end + 1  # offsets of the next lines
        first = (-(lines + 1)) % MARK_ROWS  # breaks[i] starts data line lines + i + 1
        marks += [b for b in breaks[first::MARK_ROWS].tolist() if b > start]
        lines += len(breaks)
        end += len(block)
        last = block[-1:]
    lines += last != b"\n"
    if file.kind == "tsv.gz":
        return _GzipSlices(lines, end, start, first_row)
    if marks and marks[-1] >= end:
        marks.pop()
    return _TsvSlices(marks, end, lines, first_row)


def _tsv_blocks(file: InputFile) -> Iterator[bytes]:
    fs, path = filesystem(file.path)
    with fs.open(path, "rb") as raw:
        stream = gzip.open(raw) if file.kind == "tsv.gz" else raw
        try:
            while block := stream.read(SCAN_BYTES):
                yield block
        except (EOFError, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{redact(file.path)}: damaged or cut gzip: {error}; write the file again"
            ) from None


def _head(file: InputFile, block: bytes, columns: Columns) -> tuple[int, int]:
    """Offset of the first data line, and its number: after a byte order mark and a header line."""
    if block[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{redact(file.path)}: UTF-16; convert it: iconv -f utf-16 -t utf-8")
    start = 3 if block.startswith(b"\xef\xbb\xbf") else 0
    lines = block[start : start + 2**20].split(b"\n")[:200]
    foreign = [line for line in lines[: max(1, len(lines) - 1)] if not _is_utf8(line)]
    if len(foreign) > len(lines) // 2:
        at = start + block[start:].index(foreign[0])
        raise ValueError(
            f"{redact(file.path)}: most of its first lines are not UTF-8 (the first at byte {at:,}); "
            "convert it, for instance: iconv -f gb18030 -t utf-8"
        )
    header = "\t".join(columns.schema).encode()
    if lines[0].removesuffix(b"\r") == header:
        log.info("%s: the first line is a header", redact(file.path))
        return start + len(lines[0]) + 1, 2
    return start, 1


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parquet_slices(file: InputFile, columns: Columns) -> _ParquetSlices:
    fs, path = filesystem(file.path)
    try:
        with fs.open(path, "rb") as raw:
            metadata = pq.read_metadata(raw)
            _refuse_extension_types(file, metadata)
            schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{redact(file.path)}: not a whole Parquet file: {error}; write it again") from None
    parquet_columns(file, schema, columns)
    return _ParquetSlices([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])


def _refuse_extension_types(file: InputFile, metadata: pq.FileMetaData) -> None:
    """A pickled extension type would run code when it is read, so the footer's bytes are searched before."""
    stored = (metadata.metadata or {}).get(b"ARROW:schema", b"")
    if b"ARROW:extension" in base64.b64decode(stored):
        raise ValueError(
            f"{redact(file.path)}: a column has an Arrow extension type; such a type can run code when it is read. "
            "Write the table again with plain string and binary columns"
        )


def group_units(units: Iterable[Unit]) -> list[list[Unit]]:
    """Units that are read together: those of one Parquet row group, which can only be read from its start."""
    groups: list[list[Unit]] = []
    for unit in units:
        same = (
            groups
            and unit.row_group >= 0
            and (unit.file, unit.row_group) == (groups[-1][0].file, groups[-1][0].row_group)
        )
        if same:
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return groups
