"""Records of other tools (an object of JSON lines, a line of a CSV, a row of Parquet, a sample of a tar) ->
rows: which value is the caption, which the picture, and the picture itself.

Nothing in a record is trusted: paths stay in their folder, and what is no caption or picture is a Reject.
"""

import errno
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from painter_core.errors import Reject
from painter_core.files.storage import filesystem, is_local, join, redact
from painter_core.images.cells import image_of_cell
from painter_core.stages.make_table.row import Row
from painter_core.stages.make_table.template import FLAG, CaptionTemplate
from painter_core.tables.columns import ROW_NUMBER
from painter_core.tables.listing import entry_of
from painter_core.tables.row_checks import check_cell, check_idx, check_text
from schemas.pairs import MAX_CELL_BYTES

PATH_KEYS = ("file_name", "file", "image_path", "path")
PICTURE_KEYS = ("image", "imgbase64", "img", *PATH_KEYS)
CAPTION_KEYS = ("text", "caption", "captions")
_OF_THE_PATH = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Which values of a record are read; None: the first of the usual names that there is."""

    idx: str = "idx"
    """`row`: the number in the file. Where there is no `idx`: the picture's path, or file and number."""
    text: str | None = None
    """A.B is the field B of the structure, or list of structures, A."""
    image: str | None = None
    template: CaptionTemplate | None = None
    """Of captions that are made of several values; then `text` is not looked for."""

    def missing(self, names: list[str]) -> str:
        """What a table with these columns lacks, and the flag for it; empty if nothing."""
        if self.idx not in ("idx", ROW_NUMBER, *names):
            return f"no column {self.idx!r} (--idx-column)"
        if self.image_of(names) is None:
            return f"no picture among its columns {names}: name it with --second-sequence"
        if self.template and (name := self.template.missing(names)):
            return f"no column {name!r} among its columns {names} ({FLAG})"
        if not self.template and self.text_of(names) is None:
            return f"no caption among its columns {names}: name it with --first-sequence"
        return ""

    def image_of(self, names: list[str]) -> str | None:
        """The picture's name."""
        return _first([self.image] if self.image else PICTURE_KEYS, names)

    def text_of(self, names: list[str]) -> str | None:
        """The caption's name, without that of a field in it."""
        if self.text is None:
            return _first(CAPTION_KEYS, names)
        return _first([self.text, self.text.partition(".")[0]], names)

    def columns(self, names: list[str]) -> set[str | None]:
        """What is read of a table with these columns."""
        texts = self.template.columns(names) if self.template else [self.text_of(names)]
        return {self.idx, self.image_of(names), *texts}


def rows_of(place: Row, record: Mapping[str, Any], keys: Keys, folder: str) -> Iterator[Row]:
    """The rows of a record: one a caption.

    Args:
        place: where it comes from, and its idx if it has none of its own.
        folder: that its paths are in.
    """
    names = list(record)
    try:
        own = _idx(place, record, keys)
        place = replace(place, idx=place.idx if own is None else own)
        name = _named(keys.image_of(names), "picture", "--second-sequence", names)
        caption = "text"
        if keys.template:
            captions = [keys.template.of(record)]
        else:
            caption = _named(keys.text_of(names), "caption", "--first-sequence", names)
            field = (keys.text or "")[len(caption) + 1 :] if keys.text != caption else ""
            captions = _captions(record[caption], caption, field)
    except Reject as error:
        yield place.rejected(error)
        return
    place = replace(place, text=captions[0])
    try:
        image, path = _picture(record[name], folder, is_path=name in PATH_KEYS)
        check_cell(image, name)
    except Reject as error:
        error.column = error.column or name
        yield place.rejected(error)
        return
    if own is None and not place.idx:
        place = replace(place, idx=path or f"{PurePosixPath(place.file).stem}-{place.number}")
    for number, text in enumerate(captions):
        idx = f"{place.idx}-{number}" if len(captions) > 1 else place.idx
        row = replace(place, idx=idx, text=text, image=image)
        try:
            check_idx(idx, keys.idx)
            check_text(text, caption)
            _check_encoding(idx, keys.idx)
            _check_encoding(text, caption)
        except Reject as error:
            row = row.rejected(error)
        yield row


def _first(wanted: list[str] | tuple[str, ...], names: list[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _named(name: str | None, what: str, flag: str, names: list[str]) -> str:
    if name is None:
        raise Reject("record_damaged", f"no {what} in {names[:20]}: name it with {flag}")
    return name


def _check_encoding(cell: str, column: str) -> None:
    """Raises Reject for lone surrogates: bytes of another encoding, or half a character of JSON."""
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        raise Reject("text_encoding", f"not UTF-8 at {error.start:,}: {cell[:40]!r}", column) from None


def _idx(place: Row, record: Mapping[str, Any], keys: Keys) -> str | None:
    """The row's key; None if no column is."""
    if keys.idx == ROW_NUMBER:
        return str(place.number)
    value = record.get(keys.idx)
    if value is None and keys.idx == "idx":
        return None
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise Reject("idx_invalid", f"{type(value).__name__}, expected a string or an integer", keys.idx)
    return str(value)


def _captions(value: Any, column: str, field: str) -> list[str]:
    """All captions of a value: a string, a structure with one, or a list of these; at least one."""
    if value is None:
        raise Reject("text_empty", "null", column)
    if isinstance(value, bytes):
        try:
            return [value.decode()]
        except UnicodeDecodeError:
            raise Reject("text_encoding", f"not UTF-8: {value[:16]!r}", column) from None
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        if not value:
            raise Reject("text_empty", "an empty list", column)
        if any(isinstance(one, list) for one in value):
            raise Reject("record_damaged", "a list of lists, expected captions", column)
        return [text for one in value for text in _captions(one, column, field)]
    if isinstance(value, dict):
        strings = [field] if field else [name for name, inner in value.items() if isinstance(inner, str)]
        if len(strings) != 1 or strings[0] not in value:
            raise Reject(
                "record_damaged",
                f"a structure of {sorted(value)}: name its caption, --first-sequence {column}.FIELD",
                column,
            )
        return _captions(value[strings[0]], column, "")
    raise Reject("record_damaged", f"{type(value).__name__}, expected a string", column)


def _picture(value: Any, folder: str, *, is_path: bool) -> tuple[bytes, str]:
    """The encoded picture, and its path if it is a file."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):  # the image type of Hugging Face data sets
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if value is None:
        raise Reject("img_empty", "null")
    if isinstance(value, str) and not value.startswith("data:") and (is_path or "." in value[:4096]):
        return read_picture(folder, value), value  # base64 has no dots
    if isinstance(value, (str, bytes)):
        return image_of_cell(value), ""
    raise Reject("record_damaged", f"{type(value).__name__}, expected a picture or its path")


def read_picture(folder: str, name: str) -> bytes:
    """A file that a record names.

    Raises:
        Reject: it is not in the folder, no regular file, or too large.
        OSError: the disk or the store fails.
    """
    if "://" in name:
        raise Reject("img_missing", f"a URL: {name[:80]!r}; download it first, for instance by img2dataset")
    fs, root = filesystem(folder)
    path = posixpath.normpath(join(root, name) if not name.startswith("/") else name)
    if not path.startswith(root.rstrip("/") + "/"):
        raise Reject("path_outside", f"{name[:200]!r} is not in {redact(folder)}")
    try:
        entry = entry_of(fs, path)
        if entry is None or entry.kind != "file":
            what = "no such file" if entry is None else f"{entry.kind}, no regular file"
            raise Reject("img_missing", f"{name[:200]!r} in {redact(folder)}: {what}")
        if entry.size_bytes > MAX_CELL_BYTES:
            raise Reject("cell_too_large", f"{entry.size_bytes:,} bytes, at most {MAX_CELL_BYTES:,}")
        return fs.cat_file(path)
    except Reject:
        raise
    except OSError as error:
        if is_local(folder) and error.errno not in _OF_THE_PATH:
            raise
        raise Reject("img_missing", f"{name[:200]!r}: cannot be read: {error}") from None
    except ValueError as error:  # a NUL, or half a character
        raise Reject("img_missing", f"{name[:200]!r}: no name of a file: {error}") from None
