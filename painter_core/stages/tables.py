"""The tables that a job reads: which files, which columns, and the manifest of a finished table of ours."""

import glob
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from painter_core.storage import filesystem, is_local, join, read_json, redact

MAX_GZIP_BYTES = 256 * 2**20
SUFFIXES = (".parquet", ".tsv", ".tsv.gz", ".txt", ".txt.gz")

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
        return tuple(dict.fromkeys((self.idx, self.text, *self.extra))) + (
            (self.image,) if self.image else ()
        )


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """An input file as it was when the plan was made."""

    path: str
    kind: Kind
    size_bytes: int
    version: str
    """ETag or modification time: another one means another content."""


def parse_input_schema(text: str) -> tuple[str, ...]:
    """Names of `--input-schema idx:str:1,text:str:1`; types are checked, and read as strings all the same."""
    names = []
    for field in text.split(","):
        parts = field.strip().split(":")
        if (
            len(parts) not in (1, 3)
            or not parts[0]
            or (len(parts) == 3 and parts[1] not in ("str", "int", "float"))
        ):
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
        raise ValueError(
            f"--tables: {redact(entry)}: no such file, and no table files ({', '.join(SUFFIXES)}) there"
        )
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
    version = next(
        (str(info[k]) for k in ("ETag", "etag", "mtime", "LastModified", "created") if info.get(k)), ""
    )
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
