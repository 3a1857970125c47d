"""Parquet files: footers, rows and columns, none of them on trust.

An Arrow extension type may run code when it is read (Ray's pickled objects do, in a process that has imported
ray.data). So the footer's note of such types is taken out before Arrow sees it; their columns are then
what they are stored as.
"""

import base64
import io
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from painter_core.files.storage import filesystem, redact
from painter_core.tables.columns import ROW_NUMBER, Columns
from painter_core.tables.inputs import HEAD_BYTES, InputFile
from painter_core.tables.magic import foreign_content

_SCHEMA = b"ARROW:schema"
_MARK, _HARMLESS = b"ARROW:extension:name", b"ARROW:extensioX:name"  # of one length: nothing moves
_FLAGS = {
    "idx": f"--idx-column NAME, or --idx-column {ROW_NUMBER} for row numbers",
    "text": "--first-sequence NAME",
    "image": "--second-sequence NAME",
}


def parquet_footer(file: InputFile) -> tuple[pq.FileMetaData, pa.Schema]:
    """A Parquet file's metadata and schema; ValueError if it is damaged, or no Parquet file."""
    fs, path = filesystem(file.path)
    try:
        with fs.open(path, "rb") as raw:
            metadata = _harmless(file.path, pq.read_metadata(raw))
            return metadata, metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(_no_parquet(file, str(error))) from None


def _no_parquet(file: InputFile, error: str) -> str:
    fs, path = filesystem(file.path)
    head = fs.cat_file(path, start=0, end=HEAD_BYTES) if fs.isfile(path) else b""
    if not head.startswith(b"PAR1") and (what := foreign_content(head)):
        return f"{redact(file.path)}: this is {what}"
    return f"{redact(file.path)}: not a whole Parquet file: {error}; write it again"


def open_parquet(path: str, raw: BinaryIO) -> pq.ParquetFile:
    """A Parquet file to read rows of, its page checksums compared."""
    metadata = _harmless(path, pq.read_metadata(raw))
    return pq.ParquetFile(raw, metadata=metadata, page_checksum_verification=True)


def _harmless(path: str, metadata: pq.FileMetaData) -> pq.FileMetaData:
    """The footer without its note of extension types; the fields keep their names under another key."""
    stored = (metadata.metadata or {}).get(_SCHEMA, b"")
    sink = pa.BufferOutputStream()
    metadata.write_metadata_file(sink)
    footer = sink.getvalue().to_pybytes()
    try:
        schema = base64.b64decode(stored, validate=True)
    except ValueError:
        raise ValueError(f"{redact(path)}: damaged ARROW:schema in the footer; write it again") from None
    if footer.count(_SCHEMA) > 1:
        raise ValueError(f"{redact(path)}: ARROW:schema stands twice in the footer; write it again")
    if _MARK not in schema:
        return metadata
    harmless = base64.b64encode(schema.replace(_MARK, _HARMLESS))
    return pq.read_metadata(io.BytesIO(footer.replace(stored, harmless)))


def extension_name(field: pa.Field) -> str:
    """The extension type of a column of a harmless footer, its inner fields' too; empty if there is none."""
    if name := (field.metadata or {}).get(_HARMLESS, b""):
        return name.decode("utf-8", "replace")
    if isinstance(field.type, pa.BaseExtensionType):  # Arrow's own, from the types of Parquet
        return field.type.extension_name
    inner = (field.type.field(i) for i in range(field.type.num_fields))
    return next((name for name in map(extension_name, inner) if name), "")


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
                f"the column that is meant: {_FLAGS.get(ours, '--append-cols NAMES')}"
            )
        kinds = "string or binary" if ours == "image" else "string or integer"
        if extension := extension_name(schema.field(theirs)):
            raise ValueError(
                f"{where}: the extension type {extension} is not accepted, since such a type can run code "
                f"when it is read; write the column as plain {kinds}"
            )
        if not _allowed(schema.field(theirs).type, is_image=ours == "image"):
            raise ValueError(f"{where}: type {schema.field(theirs).type} is not accepted, only {kinds}")
    return names


def _allowed(kind: pa.DataType, *, is_image: bool) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return True
    if not is_image:
        return pa.types.is_integer(kind)
    if pa.types.is_struct(kind):  # the image type of Hugging Face data sets: {bytes, path}
        return "bytes" in [f.name for f in kind] and _allowed(kind.field("bytes").type, is_image=True)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def read_table(data: bytes, path: str) -> pa.Table:
    """A part's rows; its columns are held against extension types first.

    Raises:
        ValueError: it is damaged, or could run code.
    """
    try:
        for field in _harmless(path, pq.read_metadata(io.BytesIO(data))).schema.to_arrow_schema():
            if extension := extension_name(field):
                raise ValueError(
                    f"{redact(path)}: column {field.name!r} has the extension type {extension}, which no job "
                    "of ours writes; the part was changed"
                )
        return pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{redact(path)}: damaged ({error}); inspect_table.py --verify says more") from None


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file; the same bytes for the same rows."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=True, write_page_checksum=True)
    return out.getvalue()


def column_cells(column: pa.ChunkedArray) -> list[str | bytes | None]:
    """Values as str, bytes or None; a string that is not UTF-8 as bytes."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_struct(column.type):
        return column_cells(pc.struct_field(column, "bytes"))
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_text(value) for value in column.cast(pa.large_binary()).to_pylist()]


def _text(value: bytes | None) -> str | bytes | None:
    try:
        return value and value.decode()
    except UnicodeDecodeError:
        return value
