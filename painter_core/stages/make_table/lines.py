"""JSON lines and CSV with a header -> records. Lines of any length and number; memory holds one of them."""

import csv
import json
from collections.abc import Iterator
from typing import Any

from fsspec.spec import AbstractFileSystem

from painter_core.errors import Reject
from painter_core.files.storage import filesystem, redact
from painter_core.stages.make_table.records import Keys
from painter_core.stages.make_table.row import Row
from painter_core.tables.columns import Encoding
from painter_core.tables.encoding import after_mark
from painter_core.tables.magic import foreign_content, separated_by
from painter_core.tables.tsv import MAX_ROW_BYTES, split_lines

HEAD_BYTES = 2**20
BLOCK_BYTES = 4 * 2**20

Records = Iterator[tuple[Row, dict[str, Any]]]


def json_records(url: str, encoding: Encoding) -> Records:
    """The objects of a file of JSON lines, by line; a line that is none is a row with an error.

    Raises:
        ValueError: the file as a whole is something else.
    """
    fs, path = filesystem(url)
    start, head = _text_start(fs, path, url, encoding)
    if head[start:].lstrip().startswith(b"["):
        raise ValueError(f"{redact(url)}: one JSON array: write each of its objects on a line of its own")
    lines = split_lines(blocks(fs, path, start))
    for number, (offset, size, line, _) in enumerate(lines, 1):
        place = Row(file=redact(url), number=number, byte_offset=start + offset)
        try:
            if size > MAX_ROW_BYTES:
                raise Reject("row_too_large", f"{size:,} bytes, at most {MAX_ROW_BYTES:,}")
            if line.strip():
                yield place, json_object(line, encoding)
        except Reject as error:
            yield place.rejected(error), {}


def json_object(data: bytes, encoding: Encoding = "utf-8") -> dict[str, Any]:
    """A JSON object; Reject if it is none."""
    try:
        value = json.loads(data.decode(encoding))
    except UnicodeDecodeError as error:
        raise Reject("text_encoding", f"byte {error.start:,} is {data[error.start]:#04x}") from None
    except (ValueError, RecursionError) as error:
        raise Reject("record_damaged", f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise Reject("record_damaged", f"{type(value).__name__}, expected a JSON object")
    return value


def csv_records(url: str, encoding: Encoding, keys: Keys) -> Records:
    """The rows of a CSV by the names in its header, at the line where each begins.

    Raises:
        ValueError: the file as a whole is something else, or its header lacks a column.
    """
    fs, path = filesystem(url)
    start, head = _text_start(fs, path, url, encoding)
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader(_text_lines(fs, path, start, url, encoding), strict=True)
    try:
        names = next((row for row in reader if row), [])
    except csv.Error as error:
        what = f"{error}; lines must end as in Unix or Windows"
        raise ValueError(f"{redact(url)} line {reader.line_num}: no CSV: {what}") from None
    _check_header(url, head[start:], names, keys)
    while True:
        place = Row(file=redact(url), number=reader.line_num + 1)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines = f"lines {place.number} to {reader.line_num}"
            yield place.rejected(Reject("record_damaged", f"{lines}: quotes do not fit: {error}")), {}
            continue
        if not cells:
            continue  # a blank line
        if len(cells) != len(names):
            what = f"{len(cells)} columns, expected {len(names)} ({', '.join(names)})"
            yield place.rejected(Reject("bad_columns", what)), {}
        elif damaged := [name for name, cell in zip(names, cells, strict=True) if not _is_text(cell)]:
            yield place.rejected(Reject("text_encoding", f"not {encoding.upper()}", damaged[0])), {}
        else:
            yield place, dict(zip(names, cells, strict=True))


def _check_header(url: str, head: bytes, names: list[str], keys: Keys) -> None:
    separator = "\t" if "\t" in "".join(names) else separated_by(head.split(b"\n")[:100])
    if separator not in ("", ","):
        raise ValueError(f"{redact(url)}: separated by {separator!r}, expected commas; save it as CSV")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{redact(url)}: {twice} stand twice in its first line; mend the header")
    if missing := keys.missing(names):
        raise ValueError(f"{redact(url)}: its first line is no header for this: {missing}")


def _text_start(fs: AbstractFileSystem, path: str, url: str, encoding: Encoding) -> tuple[int, bytes]:
    head = fs.cat_file(path, start=0, end=HEAD_BYTES)
    refuse_foreign(url, head)
    return after_mark(url, head, encoding), head


def refuse_foreign(url: str, head: bytes) -> None:
    """Raises ValueError if a file is known to be neither text nor what its name says."""
    if (what := foreign_content(head)) and not what.startswith("JSON lines"):
        raise ValueError(f"{redact(url)}: this is {what}")


def blocks(fs: AbstractFileSystem, path: str, start: int) -> Iterator[bytes]:
    """The bytes of a file from there on."""
    with fs.open(path, "rb") as file:
        file.seek(start)
        while block := file.read(BLOCK_BYTES):
            yield block


def _text_lines(fs: AbstractFileSystem, path: str, start: int, url: str, encoding: Encoding) -> Iterator[str]:
    """Lines with their ends; bytes that are not of the encoding as lone surrogates."""
    for number, (_, size, line, _) in enumerate(split_lines(blocks(fs, path, start)), 1):
        if size > MAX_ROW_BYTES:
            raise ValueError(f"{redact(url)} line {number}: {size:,} bytes, at most {MAX_ROW_BYTES:,}")
        yield line.decode(encoding, "surrogateescape") + "\n"


def _is_text(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True
