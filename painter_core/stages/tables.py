"""What a job reads: input files, the plan that cuts them into units, and the reading of a unit's rows.

A unit is a slice of an input file: whole lines of a TSV (a byte range), or rows of one Parquet row group. The plan is
made before any work and does not depend on the cluster, so a unit is the same in every run. Planning reads a TSV once,
at the speed of the disk, to know where its lines start; of a Parquet file it reads the footer.
"""

import base64
import glob
import gzip
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from painter_core.storage import filesystem, is_local, join, read_json, redact

log = logging.getLogger(__name__)

UNIT_ROWS = 512
UNITS_OF_A_SMALL_TABLE = 32  # a table of fewer rows than 32 x 512 is cut finer, so that actors do not idle
MARK_ROWS = 16  # planning keeps the offset of every 16th line of a TSV: unit sizes are multiples of it
MAX_GZIP_BYTES = 256 * 2**20
SUFFIXES = (".parquet", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
SCAN_BYTES = 16 * 2**20

Kind = Literal["parquet", "tsv", "tsv.gz"]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns a job reads, by name."""

    schema: tuple[str, ...]
    """All columns of a TSV, in order."""
    idx: str = "idx"
    text: str = "text"
    image: str | None = None
    """Column of the picture; None for jobs that read captions only."""
    extra: tuple[str, ...] = ()
    """Columns carried through unchanged (--append-cols)."""

    @property
    def read(self) -> tuple[str, ...]:
        """What is taken from a file."""
        return tuple(dict.fromkeys((self.idx, self.text, *self.extra))) + ((self.image,) if self.image else ())


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """An input file as it was when the plan was made."""

    path: str
    kind: Kind
    size_bytes: int
    version: str
    """ETag or modification time: another one means another content."""


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


def parse_input_schema(text: str) -> tuple[str, ...]:
    """Names of `--input-schema idx:str:1,text:str:1`; types are checked, and read as strings all the same."""
    names = []
    for field in text.split(","):
        parts = field.strip().split(":")
        if len(parts) not in (1, 3) or not parts[0] or (len(parts) == 3 and parts[1] not in ("str", "int", "float")):
            raise ValueError(f"--input-schema: {field!r} is not name:type:length with type str, int or float")
        names.append(parts[0])
    if len(set(names)) != len(names):
        raise ValueError(f"--input-schema: a name stands twice in {names}")
    return tuple(names)


def find_files(tables: str) -> list[InputFile]:
    """The files behind `--tables`: files, directories and globs, comma-separated, in a fixed order.

    A directory with manifest.json is a table of ours: its parts are taken from there. Of another directory every file
    with a table's suffix is taken, sub-directories included, names that start with `_` or `.` left out.

    Raises:
        ValueError: nothing is found, a file is empty, or a table of ours is unfinished.
    """
    files = []
    for entry in (t.strip() for t in tables.split(",")):
        if not entry:
            raise ValueError(f"--tables: an empty name in {tables!r}")
        files += [_input_file(path) for path in _paths(entry)]
    return files


def _paths(entry: str) -> list[str]:
    fs, path = filesystem(entry)
    if fs.isfile(path):
        return [fs.unstrip_protocol(path) if not is_local(entry) else path]
    if fs.isdir(path):
        if fs.exists(join(path, "_run")) or fs.exists(join(path, "manifest.json")):
            names = [part["name"] for part in read_manifest(entry)["parts"]]
            found = [join(path, name) for name in names]
        else:
            found = sorted(p for p in fs.find(path) if _is_table_file(p[len(path) :]))
    else:
        # a local path may hold brackets of its own; what does not exist as it stands is a pattern
        found = sorted(p for p in (glob.glob(path) if is_local(entry) else fs.glob(path)) if fs.isfile(p))
    if not found:
        raise ValueError(f"--tables: {redact(entry)}: no such file, and no table files ({', '.join(SUFFIXES)}) there")
    return [p if is_local(entry) else fs.unstrip_protocol(p) for p in found]


def _is_table_file(relative: str) -> bool:
    parts = relative.strip("/").split("/")
    return parts[-1].endswith(SUFFIXES) and not any(p.startswith(("_", ".")) for p in parts)


def _input_file(path: str) -> InputFile:
    fs, inner = filesystem(path)
    info = fs.info(inner)
    if info["size"] == 0:
        raise ValueError(f"{redact(path)}: the file is empty (0 bytes); remove it or write it again")
    kind: Kind = "parquet" if path.endswith(".parquet") else "tsv.gz" if path.endswith(".gz") else "tsv"
    if kind == "tsv.gz" and info["size"] > MAX_GZIP_BYTES:
        raise ValueError(
            f"{redact(path)}: {info['size']:,} bytes of gzip; one worker reads a .gz alone, so at most "
            f"{MAX_GZIP_BYTES:,} are taken. Unpack it, or split it"
        )
    version = next((str(info[k]) for k in ("ETag", "etag", "mtime", "LastModified", "created") if info.get(k)), "")
    return InputFile(path=path, kind=kind, size_bytes=info["size"], version=version)


def read_manifest(directory: str) -> dict[str, Any]:
    """manifest.json of a finished table of ours.

    Raises:
        ValueError: there is none: the table is unfinished.
    """
    fs, path = filesystem(directory)
    manifest = join(path, "manifest.json")
    if not fs.exists(manifest):
        raise ValueError(
            f"{redact(directory)}: no manifest.json, so the table is not finished; submit the job that writes it again"
        )
    return read_json(fs, manifest)


def plan_units(files: list[InputFile], columns: Columns, *, micro_batch_size: int, limit: int | None) -> list[Unit]:
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
                "row_group": -1, "start": start, "stop": stop, "first_row": self.first_row + row, "num_rows": rows
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
            raise ValueError(f"{redact(file.path)}: damaged or cut gzip: {error}; write the file again") from None


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


def parquet_columns(file: InputFile, schema: pa.Schema, columns: Columns) -> dict[str, str]:
    """Our name of each column that is read -> its name in the file; types are compared with an allow-list."""
    names = {name: name for name in columns.read}
    if columns.image and columns.image not in schema.names and "image" in schema.names:
        names[columns.image] = "image"  # encoded bytes, the other form of a pairs table
    for ours, theirs in names.items():
        where = f"{redact(file.path)}: column {theirs!r}"
        if schema.names.count(theirs) != 1:
            raise ValueError(
                f"{where}: expected once, found {schema.names.count(theirs)} times in {schema.names}; name the "
                "columns with --input-schema, --first-sequence and --second-sequence"
            )
        if not _allowed(schema.field(theirs).type, is_image=ours == columns.image):
            kinds = "string or binary" if ours == columns.image else "string or integer"
            raise ValueError(f"{where}: type {schema.field(theirs).type} is not accepted, only {kinds}")
    return names


def _allowed(kind: pa.DataType, *, is_image: bool) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return True
    if not is_image:
        return pa.types.is_integer(kind)
    if pa.types.is_struct(kind):  # the image type of Hugging Face data sets: {bytes, path}
        return "bytes" in [f.name for f in kind] and _allowed(kind.field("bytes").type, is_image=True)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def group_units(units: Iterable[Unit]) -> list[list[Unit]]:
    """Units that are read together: those of one Parquet row group, which can only be read from its start."""
    groups: list[list[Unit]] = []
    for unit in units:
        same = groups and unit.row_group >= 0 and (unit.file, unit.row_group) == (groups[-1][0].file, groups[-1][0].row_group)
        if same:
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return groups
