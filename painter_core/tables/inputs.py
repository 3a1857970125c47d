"""The files behind --tables, and whether they are still what they were."""

from dataclasses import dataclass
from typing import Literal

from painter_core.files.storage import filesystem, redact
from painter_core.tables.listing import Entry, entry_of
from painter_core.tables.magic import foreign_content
from painter_core.tables.search import search

MAX_GZIP_BYTES = 256 * 2**20
HEAD_BYTES = 512
Kind = Literal["parquet", "tsv", "tsv.gz"]


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """An input file as it was when the plan was made."""

    path: str
    kind: Kind
    size_bytes: int
    version: str
    """ETag or modification time: a different one means different content."""
    sha256: str = ""
    """For a part in our format, by its manifest: compared when it is read. Empty for other files."""


def find_files(tables: str, outputs: str = "") -> list[InputFile]:
    """The files behind `--tables`: files, directories and globs, comma-separated, in a fixed order.

    A directory with _run/, or with our manifest.json, is a table in our format: the manifest names its
    parts. Of another directory every file with a table's suffix is taken, those in sub-directories and behind
    links too, names that start with `_` or `.` not. What is passed over is counted in the log.

    Args:
        tables: as given.
        outputs: where the job writes; what is there is no input.

    Raises:
        ValueError: nothing is found, something cannot be listed, a file is empty, is no table or is named
            twice, a table in our format is unfinished, or a directory is a table of another tool.
    """
    files: list[InputFile] = []
    named: dict[str, str] = {}  # what a file really is -> the path by which it was found
    for name in (t.strip() for t in tables.split(",")):
        if not name:
            raise ValueError(f"--tables: an empty name in {redact(tables)!r}")
        try:
            found = search(name, outputs)
            _look_inside(found[0].url)
        except OSError as error:
            raise ValueError(
                f"--tables {redact(name)}: cannot be read: {error}. Nothing is left out for that: mend "
                "it, or name the tables one by one"
            ) from None
        for one in found:
            if before := named.get(one.entry.same):
                also = f" ({redact(before)} is the same file)" if before != one.url else ""
                raise ValueError(
                    f"--tables: {redact(one.url)} is named twice{also}; its rows would be done twice"
                )
            named[one.entry.same] = one.url
            files.append(_input_file(one.url, one.entry, one.sha256))
    return files


def _look_inside(url: str) -> None:
    """Refuses an entry whose first file is known to be no table: files of an entry are of one kind, and the
    others are looked at when the units are planned."""
    fs, path = filesystem(url)
    head, kind = fs.cat_file(path, start=0, end=HEAD_BYTES), kind_of(path)
    if (kind == "parquet" and head.startswith(b"PAR1")) or (
        kind == "tsv.gz" and head.startswith(b"\x1f\x8b")
    ):
        return
    if what := foreign_content(head):
        raise ValueError(f"{redact(url)}: this is {what}")


def kind_of(path: str) -> Kind:
    """How a file is read, by its name."""
    name = path.lower()
    return "parquet" if name.endswith(".parquet") else "tsv.gz" if name.endswith(".gz") else "tsv"


def _input_file(url: str, entry: Entry, sha256: str = "") -> InputFile:
    try:
        url.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{url!r}: the file name is not UTF-8; rename it") from None
    if entry.size_bytes == 0:
        raise ValueError(f"{redact(url)}: the file is empty (0 bytes); remove it or write it again")
    kind = kind_of(url)
    if kind == "tsv.gz" and entry.size_bytes > MAX_GZIP_BYTES:
        raise ValueError(
            f"{redact(url)}: {entry.size_bytes:,} bytes of gzip; one worker reads a .gz alone, so at most "
            f"{MAX_GZIP_BYTES:,} are taken. Unpack it, or split it"
        )
    return InputFile(path=url, kind=kind, size_bytes=entry.size_bytes, version=entry.version, sha256=sha256)


def check_unchanged(file: InputFile) -> None:
    """ValueError if the file is not what it was when the plan was made: the units would not fit it."""
    fs, path = filesystem(file.path)
    try:
        entry = entry_of(fs, path)
    except OSError as error:
        raise ValueError(f"{redact(file.path)}: cannot be read: {error}") from None
    if entry is None:
        raise ValueError(f"{redact(file.path)}: cannot be read: it is gone since the plan was made")
    if entry.kind != "file" or _input_file(file.path, entry, file.sha256) != file:
        raise ValueError(
            f"{redact(file.path)}: the file changed after the plan was made; units that are done hold its "
            "old rows. Submit again with --overwrite, or restore the file"
        )
