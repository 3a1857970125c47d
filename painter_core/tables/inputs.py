"""The files behind --tables, and whether they are still what they were."""

import dataclasses
import glob
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from painter_core.files.storage import filesystem, is_local, join, redact
from painter_core.tables.columns import Columns
from painter_core.tables.records import read_manifest

MAX_GZIP_BYTES = 256 * 2**20
SUFFIXES = (".parquet", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
Kind = Literal["parquet", "tsv", "tsv.gz"]


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """An input file as it was when the plan was made."""

    path: str
    kind: Kind
    size_bytes: int
    version: str
    """ETag or modification time: another one means another content."""
    sha256: str = ""
    """Of a part of a table of ours, from its manifest: compared when it is read. Empty for other files."""


def find_files(tables: str) -> list[InputFile]:
    """The files behind `--tables`: files, directories and globs, comma-separated, in a fixed order.

    A directory with manifest.json is a table of ours: its parts are taken from there. Of another directory
    every file with a table's suffix is taken, sub-directories included, names that start with `_` or `.` not.

    Raises:
        ValueError: nothing is found, a file is empty or named twice, or a table of ours is unfinished.
    """
    files: list[InputFile] = []
    for entry in (t.strip() for t in tables.split(",")):
        if not entry:
            raise ValueError(f"--tables: an empty name in {redact(tables)!r}")
        try:
            found = _find(entry)
        except OSError as error:
            raise ValueError(f"--tables {redact(entry)}: cannot be read: {error}") from None
        if not found:
            raise ValueError(
                f"--tables: {redact(entry)}: no such file, and no table files ({', '.join(SUFFIXES)}) there"
            )
        files += found
    twice = [path for path, count in Counter(f.path for f in files).items() if count > 1]
    if twice:
        raise ValueError(f"--tables: {redact(twice[0])} is named twice; its rows would be done twice")
    return files


def _find(entry: str) -> list[InputFile]:
    fs, path = filesystem(entry)
    if fs.isfile(path):
        return [_input_file(_url(entry, fs, path))]
    if fs.isdir(path):
        return _in_directory(entry, fs, path)
    # a local path may hold brackets of its own; what does not exist as it stands is a pattern
    names = sorted(glob.glob(path, recursive=True) if is_local(entry) else fs.glob(path))
    literal = len(path) - len(path.lstrip("/"))
    while literal < len(path) and path[literal] not in "*?[":
        literal += 1
    names = [name for name in names if not _is_hidden(name[path.rfind("/", 0, literal) + 1 :])]
    files = [name for name in names if fs.isfile(name) and (path[-1] != "*" or name.endswith(SUFFIXES))]
    for directory in sorted({name.rpartition("/")[0] for name in files}):
        if fs.exists(join(directory, "_run")):
            read_manifest(_url(entry, fs, directory))  # or it is not finished
    if files:
        return [_input_file(_url(entry, fs, name)) for name in files]
    return [file for name in names if fs.isdir(name) for file in _in_directory(entry, fs, name)]


def _in_directory(entry: str, fs: AbstractFileSystem, path: str) -> list[InputFile]:
    if fs.exists(join(path, "_run")) or fs.exists(join(path, "manifest.json")):
        return _parts(_url(entry, fs, path))
    names = sorted(fs.find(path))
    ours = {n.removesuffix(m) for n in names for m in ("/manifest.json", "/_run/plan.json") if n.endswith(m)}
    files: list[InputFile] = []
    for name in names:
        if any(name.startswith(table + "/") for table in ours):
            continue
        if name.endswith(SUFFIXES) and not _is_hidden(name[len(path) :]):
            files.append(_input_file(_url(entry, fs, name)))
    for table in sorted(ours):
        files += _in_directory(entry, fs, table)
    return files


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(("_", ".")) for part in relative.strip("/").split("/"))


def _url(entry: str, fs: AbstractFileSystem, path: str) -> str:
    return path if is_local(entry) else fs.unstrip_protocol(path)


def _parts(directory: str) -> list[InputFile]:
    """The parts of a finished table of ours, their sizes compared with its manifest."""
    files = []
    for part in read_manifest(directory)["parts"]:
        file = _input_file(join(directory, part["name"]))
        if file.size_bytes != part["bytes"]:
            raise ValueError(
                f"{redact(file.path)}: {file.size_bytes:,} bytes, but manifest.json says {part['bytes']:,}: "
                "the part was changed or damaged"
            )
        files.append(dataclasses.replace(file, sha256=part["sha256"]))
    return files


def _input_file(path: str) -> InputFile:
    fs, inner = filesystem(path)
    try:
        path.encode()
        info = fs.info(inner)
    except UnicodeEncodeError:
        raise ValueError(f"{path!r}: the file name is not UTF-8; rename it") from None
    except OSError as error:
        raise ValueError(f"{redact(path)}: cannot be read: {error}") from None
    if info["size"] == 0:
        raise ValueError(f"{redact(path)}: the file is empty (0 bytes); remove it or write it again")
    kind: Kind = "parquet" if path.endswith(".parquet") else "tsv.gz" if path.endswith(".gz") else "tsv"
    if kind == "tsv.gz" and info["size"] > MAX_GZIP_BYTES:
        raise ValueError(
            f"{redact(path)}: {info['size']:,} bytes of gzip; one worker reads a .gz alone, so at most "
            f"{MAX_GZIP_BYTES:,} are taken. Unpack it, or split it"
        )
    known = ("ETag", "etag", "mtime", "LastModified", "updated", "created")
    version = next((str(info[key]) for key in known if info.get(key)), "")
    return InputFile(path=path, kind=kind, size_bytes=info["size"], version=version)


def check_unchanged(file: InputFile) -> None:
    """ValueError if the file is not what it was when the plan was made: the units would not fit it."""
    if dataclasses.replace(_input_file(file.path), sha256=file.sha256) != file:
        raise ValueError(
            f"{redact(file.path)}: the file changed after the plan was made; units that are done hold its "
            "old rows. Submit again with --overwrite, or restore the file"
        )


def parquet_columns(file: InputFile, schema: pa.Schema, columns: Columns) -> dict[str, str]:
    """Our name of each column that is read -> its name in the file; types are held against an allow-list."""
    names = columns.named
    if columns.image and columns.image not in schema.names and "image" in schema.names:
        names["image"] = "image"  # encoded bytes, the other form of a pairs table
    for ours, theirs in names.items():
        where = f"{redact(file.path)}: column {theirs!r}"
        if schema.names.count(theirs) != 1:
            raise ValueError(
                f"{where}: expected once, found {schema.names.count(theirs)} times in {schema.names}; name "
                "the columns with --input-schema, --first-sequence and --second-sequence"
            )
        if not _allowed(schema.field(theirs).type, is_image=ours == "image"):
            kinds = "string or binary" if ours == "image" else "string or integer"
            raise ValueError(f"{where}: type {schema.field(theirs).type} is not accepted, only {kinds}")
    return names


def _allowed(kind: pa.DataType, *, is_image: bool) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return True
    if not is_image:
        return pa.types.is_integer(kind)
    if pa.types.is_fixed_size_list(kind):  # the codes of a picture
        return kind.value_type == pa.uint16()
    if pa.types.is_struct(kind):  # the image type of Hugging Face data sets: {bytes, path}
        return "bytes" in [f.name for f in kind] and _allowed(kind.field("bytes").type, is_image=True)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
