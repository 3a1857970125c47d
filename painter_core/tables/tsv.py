"""Bytes of a TSV to lines: where its rows begin, opening it, splitting it.

What is no TSV in UTF-8 with the right columns is refused here, before any work.
"""

import codecs
import gzip
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from painter_core.files.storage import filesystem, redact
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import InputFile

log = logging.getLogger(__name__)

# what a file may be that is named like a TSV, by its first bytes
_NOT_TSV = {
    b"\x93NUMPY": "a NumPy array: codes and pictures are read from Parquet only",
    b"PAR1": "a Parquet file: name it .parquet",
    b"\x1f\x8b": "compressed by gzip: name it .tsv.gz",
    b"PK\x03\x04": "a zip archive or an .xlsx file: save it as UTF-8 text with tabs",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it",
    b"\xff\xfe": "UTF-16: convert it, iconv -f utf-16 -t utf-8",
    b"\xfe\xff": "UTF-16: convert it, iconv -f utf-16 -t utf-8",
}
_HEAD_BYTES = 2**20


def tsv_start(file: InputFile, head: bytes, columns: Columns) -> tuple[int, int]:
    """Where the rows of a TSV begin: byte offset and physical line, after a byte order mark and a header.

    With --skip-first-line the first line is passed over, whatever it holds.

    Args:
        head: the first bytes of the (decompressed) file, at least 1 MiB of it or all.

    Raises:
        ValueError: it is no TSV in UTF-8 with these columns.
    """
    if missing := [name for name in columns.read if name not in columns.schema]:
        raise ValueError(
            f"{redact(file.path)}: columns {missing} are to be read, but --input-schema has "
            f"{list(columns.schema)}"
        )
    for magic, what in _NOT_TSV.items():
        if head.startswith(magic):
            raise ValueError(f"{redact(file.path)}: this is {what}")
    start = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    if head[:4096].count(0) > len(head[:4096]) // 4:
        raise ValueError(f"{redact(file.path)}: this is UTF-16 or binary; convert it to UTF-8 with iconv")
    _check_utf8(file, head[start:_HEAD_BYTES], start)
    if columns.skip_first_line:
        return _after_first_line(file, head, start), 2
    line, _, _ = head[start:_HEAD_BYTES].partition(b"\n")
    cells = line.removesuffix(b"\r").decode("utf-8", "replace").split("\t")
    if tuple(cells) == columns.schema:
        log.info("%s: the first line is a header", redact(file.path))
        return min(start + len(line) + 1, len(head)), 2
    found = dict(zip(columns.schema, cells, strict=False))  # a header may have another number of columns
    if set(cells) == set(columns.schema) or found.get(columns.idx) == columns.idx:
        raise ValueError(
            f"{redact(file.path)}: the first line looks like a header, found {cells[:20]}, expected "
            f"{list(columns.schema)}; name the columns in this order with --input-schema"
        )
    return start, 1


def _check_utf8(file: InputFile, head: bytes, start: int) -> None:
    """Refuses another encoding of the whole file; a few damaged rows become rejects later."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
        return
    except UnicodeDecodeError as error:
        at = start + error.start
    sample = head.decode("utf-8", "replace")
    lines = sample.removesuffix("\n").split("\n")
    damaged = sum("\ufffd" in line for line in lines)
    if damaged > len(lines) // 2 and sample.count("\ufffd") * 2 > sum(not c.isascii() for c in sample):
        raise ValueError(
            f"{redact(file.path)}: not UTF-8 at byte {at:,}, nor in most places after it; convert "
            "it, for instance: iconv -f gb18030 -t utf-8"
        )


def _after_first_line(file: InputFile, head: bytes, start: int) -> int:
    end = head.find(b"\n", start)
    if end < 0:
        raise ValueError(
            f"{redact(file.path)}: no line end in the first {len(head):,} bytes, so --skip-first-line leaves "
            "nothing"
        )
    return end + 1


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
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{redact(file.path)}: damaged or cut gzip: {error}; write the file again"
            ) from None


MAX_ROW_BYTES = 64 * 2**20


def split_lines(blocks: Iterator[bytes]) -> Iterator[tuple[int, int, bytes, bool]]:
    """(start, size, line without its end, whether it had one) of every line. Only \\n ends a line.

    Of a line above MAX_ROW_BYTES the first block alone is kept.
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
