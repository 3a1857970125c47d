"""Bytes of a TSV to lines and cells: opening it, splitting it. What its first lines must be: tsv_head.py."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from painter_core.files.storage import filesystem, redact
from painter_core.tables.columns import Quoting
from painter_core.tables.inputs import HEAD_BYTES, InputFile
from painter_core.tables.magic import foreign_content

MAX_ROW_BYTES = 64 * 2**20


@contextmanager
def open_tsv(file: InputFile) -> Iterator[BinaryIO]:
    """The bytes of a TSV, decompressed.

    Raises:
        ValueError: in the block: the .gz is damaged.
    """
    fs, path = filesystem(file.path)
    with fs.open(path, "rb") as raw:
        if file.kind != "tsv.gz":
            yield raw
            return
        head = raw.read(HEAD_BYTES)
        if not head.startswith(b"\x1f\x8b") and (what := foreign_content(head)):
            raise ValueError(f"{redact(file.path)}: this is {what}")
        raw.seek(0)
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{redact(file.path)}: damaged or cut gzip: {error}; write the file again"
            ) from None


def split_lines(blocks: Iterator[bytes]) -> Iterator[tuple[int, int, bytes, bool]]:
    """Yields (start, size, line without its end, whether it had one) of every line. Only \\n ends a line.

    Of a line longer than MAX_ROW_BYTES only the first block is kept.
    """
    start, held, size = 0, b"", 0
    for block in blocks:
        *whole, rest = block.split(b"\n")
        for line in whole:
            line, size = held + line if size <= MAX_ROW_BYTES else held, size + len(line)
            yield start, size, line, True
            start, held, size = start + size + 1, b"", 0
        if size <= MAX_ROW_BYTES:
            held += rest
        size += len(rest)
    if size:
        yield start, size, held, False


def cells_of(line: str, quoting: Quoting) -> list[str]:
    """The cells of a line.

    Raises:
        ValueError: a quote is not closed on the line, with quoting `csv`.
    """
    if quoting == "none" or '"' not in line:
        return line.split("\t")
    csv.field_size_limit(MAX_ROW_BYTES)
    try:
        return next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error as error:
        raise ValueError(f"quotes that do not close on their line: {error}") from None


def is_quoted(cell: str) -> bool:
    """Whether a cell is one that a spreadsheet or pandas wrote in quotes, those inside it doubled."""
    inner = cell[1:-1]
    return (
        len(cell) > 2 and cell[0] == cell[-1] == '"' and '""' in inner and '"' not in inner.replace('""', "")
    )
