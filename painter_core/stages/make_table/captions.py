"""Captions of pictures in files: one file for all of them, or a .txt beside each."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from painter_core.tables.columns import Encoding
from painter_core.tables.encoding import MARK, after_mark

HEAD_BYTES = 2**20
NAMES = ("file_name", "file")  # of a picture's column: Hugging Face's, ours


def caption_beside(picture: Path, encoding: Encoding) -> str:
    """The text of the .txt beside a picture.

    Raises:
        ValueError: it cannot be read, or has another encoding.
    """
    file = picture.with_suffix(".txt")
    try:
        data = file.read_bytes()
        _check_encoding(file, data, encoding)
        return data.decode(encoding).removeprefix(MARK).strip()
    except UnicodeDecodeError as error:
        raise ValueError(_of_another_encoding(file, error)) from None
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None


def read_captions(file: Path, encoding: Encoding) -> dict[str, str]:
    """File name of a picture relative to the folder -> caption.

    Args:
        file: JSON lines (.jsonl, .json) with `file` or `file_name` and `text`; a .csv with these in its
            header; else a TSV of two columns, or with such a header.

    Raises:
        ValueError: it cannot be read, or a line is not so; names file and line.
    """
    found: dict[str, str] = {}
    read = {".jsonl": _json_records, ".json": _json_records, ".csv": _csv_records}
    try:
        with file.open("rb") as raw:
            head = raw.read(HEAD_BYTES)
        _check_encoding(file, head, encoding)
        with file.open(encoding=encoding, newline="\n") as lines:
            if not lines.read(1).startswith(MARK):
                lines.seek(0)
            records = read.get(file.suffix.lower(), _tsv_records)(file, lines)
            for number, record in records:
                name, text = _name_and_text(f"{file} line {number}", record)
                if name in found:
                    raise ValueError(f"{file} line {number}: {name!r} stands twice")
                found[name] = text
    except UnicodeDecodeError as error:
        raise ValueError(_of_another_encoding(file, error)) from None
    except OSError as error:
        raise ValueError(f"--captions {file}: cannot be read: {error}") from None
    return found


def _name_and_text(where: str, record: dict[str, Any]) -> tuple[str, str]:
    name_key = next((key for key in NAMES if key in record), None)
    if name_key is None or "text" not in record:
        raise ValueError(f"{where}: expected file and text, got {sorted(record)}")
    for key in (name_key, "text"):
        value = record[key]
        if not isinstance(value, str):
            kind = "null" if value is None else type(value).__name__
            raise ValueError(f"{where}: {key} is {kind}, expected one string: {str(value)[:80]!r}")
    return PurePosixPath(record[name_key]).as_posix(), record["text"]


def _json_records(file: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            one = "; the file is one JSON array: write each of its objects on a line of its own"
            hint = one if number == 1 and line.lstrip().startswith("[") else ""
            raise ValueError(f"{file} line {number}: expected file and text, got {error}{hint}") from None
        if not isinstance(record, dict):
            raise ValueError(
                f"{file} line {number}: expected file and text in an object, got {type(record).__name__}; "
                'for instance {"file": "a.jpg", "text": "红色的杯子"}'
            )
        yield number, record


def _tsv_records(file: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = (line.removesuffix("\n").removesuffix("\r").split("\t") for line in lines)
    yield from _records(file, enumerate(rows, 1), ("file", "text"))


def _csv_records(file: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(lines, strict=True)
    try:
        yield from _records(file, ((reader.line_num, row) for row in reader), None)
    except csv.Error as error:
        raise ValueError(f"{file} line {reader.line_num}: {error}") from None


def _records(
    file: Path, rows: Iterable[tuple[int, list[str]]], names: tuple[str, ...] | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with the names of a header, if there is one, or these."""
    first = True
    for number, row in rows:
        if not any(row):
            continue
        if first and set(NAMES) & set(row):
            names = tuple(row)
        elif names is None:
            raise ValueError(
                f"{file} line {number}: expected a header with file_name and text, got {row[:10]}"
            )
        elif len(row) != len(names):
            raise ValueError(
                f"{file} line {number}: expected file and text, got {len(row)} columns instead of "
                f"{len(names)}"
            )
        else:
            yield number, dict(zip(names, row, strict=True))
        first = False


def _check_encoding(file: Path, head: bytes, encoding: Encoding) -> None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{file}: UTF-16; convert it: iconv -f utf-16 -t utf-8")
    after_mark(str(file), head, encoding)


def _of_another_encoding(file: Path, error: UnicodeDecodeError) -> str:
    found = f"{error.object[error.start]:#04x}"
    return f"{file}: not {error.encoding.upper()} (it holds {found}); mend that place, or see --encoding"
