"""Parquet files: footers, rows and columns, none of them on trust.

An Arrow extension type may run code when it is read (Ray's pickled objects do, in a process that has imported
ray.data). So the footer's note of such types is taken out before Arrow sees it; their columns are then
what they are stored as.
"""

import base64
import io
import re
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from painter_core.files.storage import filesystem, redact
from painter_core.tables.columns import ROW_NUMBER, Columns
from painter_core.tables.inputs import HEAD_BYTES, InputFile
from painter_core.tables.magic import foreign_content

_SCHEMA = b"ARROW:schema"
_VALUE = re.compile(rb"\x18([\x80-\xff]{0,4}[\x00-\x7f])")  # a string's mark, and its length
_TAIL_BYTES = 2**16  # of a file's end that are read at once; few footers are longer
_MARK, _HARMLESS = b"ARROW:extension:name", b"ARROW:extensioX:name"  # equally long, so that nothing moves
_FLAGS = {
    "idx": f"--idx-column NAME, or --idx-column {ROW_NUMBER} for row numbers",
    "text": "--first-sequence NAME",
    "image": "--second-sequence NAME",
    "codes": "--init-codes NAME",
}
_KINDS = {"image": "string or binary", "codes": "a list of uint16"}  # that are accepted


def parquet_footer(file: InputFile) -> tuple[pq.FileMetaData, pa.Schema]:
    """A Parquet file's metadata and schema; ValueError if it is damaged, or no Parquet file."""
    fs, path = filesystem(file.path)
    try:
        with fs.open(path, "rb") as raw:
            metadata = _metadata(file.path, raw)
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
    return pq.ParquetFile(raw, metadata=_metadata(path, raw), page_checksum_verification=True)


def _metadata(path: str, raw: BinaryIO) -> pq.FileMetaData:
    """The footer without its note of extension types; the fields keep the names of these under another key.

    pyarrow makes the types as soon as it opens a file, so its bytes are changed before: a value in a list of
    keys and values in Thrift's compact form, where a string is 0x18, its length, its bytes.

    Raises:
        ValueError: the note is not as pyarrow writes it.
        ArrowInvalid: it is no Parquet file.
    """
    size = raw.seek(0, io.SEEK_END)
    raw.seek(max(0, size - _TAIL_BYTES))
    tail = raw.read()
    length = int.from_bytes(tail[-8:-4], "little")
    if tail[-4:] != b"PAR1" or length + 12 > size:
        raise pa.ArrowInvalid("it does not end as one")
    if length + 8 > len(tail):
        raw.seek(size - length - 8)
        tail = raw.read()
    footer = tail[-length - 8 : -8]
    at = footer.find(_SCHEMA)
    while at >= 0:
        found = _VALUE.match(footer, at + len(_SCHEMA))
        stored = _string_at(footer, found.start(1)) if found else b""
        if not stored or base64.b64encode(schema := _decoded(stored)) != stored:
            raise ValueError(f"{redact(path)}: damaged ARROW:schema in the footer; write it again")
        footer = footer.replace(stored, base64.b64encode(schema.replace(_MARK, _HARMLESS)))
        at = footer.find(_SCHEMA, at + len(_SCHEMA) + len(stored))
    return pq.read_metadata(io.BytesIO(b"PAR1" + footer + tail[-8:]))


def _string_at(data: bytes, at: int) -> bytes:
    """A string in Thrift's compact form: its length, seven bits a byte, then its bytes."""
    length = shift = 0
    while data[at] & 0x80:
        length |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    length |= data[at] << shift
    return data[at + 1 : at + 1 + length]


def _decoded(stored: bytes) -> bytes:
    try:
        return base64.b64decode(stored, validate=True)
    except ValueError:
        return b""


def extension_name(field: pa.Field) -> str:
    """The extension type of a column, or of one inside it, by a footer of _metadata(); empty if there is
    none."""
    if name := (field.metadata or {}).get(_HARMLESS, b""):
        return name.decode("utf-8", "replace")
    if isinstance(field.type, pa.BaseExtensionType):  # Arrow's own, from the types of Parquet
        return field.type.extension_name
    inner = (field.type.field(i) for i in range(field.type.num_fields))
    return next((name for name in map(extension_name, inner) if name), "")


def parquet_columns(file: InputFile, schema: pa.Schema, columns: Columns) -> dict[str, str]:
    """Our name of each column that is read -> its name in the file; types are held against an allow-list."""
    names = columns.named
    alone = columns.image and columns.image not in schema.names and not columns.codes
    if alone and "image" in schema.names:
        names["image"] = "image"  # encoded bytes, the other form of a pairs table
    if columns.kinds is not None and (surplus := sorted({*schema.names} - {*names.values()})):
        raise ValueError(
            f"{redact(file.path)}: has the columns {surplus}, which the first file of the tables has not; "
            "all columns are carried on, so give tables of other columns to a run of their own"
        )
    for ours, theirs in names.items():
        meant = "codes" if ours == "image" and columns.codes else ours
        where = f"{redact(file.path)}: column {theirs!r}"
        if schema.names.count(theirs) != 1:
            raise ValueError(
                f"{where}: expected once, found {schema.names.count(theirs)} times in {schema.names}; name "
                f"the column that is meant: {_FLAGS.get(meant, '--append-cols NAMES')}"
            )
        kinds = _KINDS.get(meant, "string or integer")
        if extension := extension_name(schema.field(theirs)):
            raise ValueError(
                f"{where}: the extension type {extension} is not accepted, since such a type can run code "
                f"when it is read; write the column as plain {kinds}"
            )
        kind = schema.field(theirs).type
        if columns.kinds is not None and ours in columns.kinds:
            if _as_sent(plain_kind(kind)) != _as_sent(columns.kinds[ours]):
                raise ValueError(
                    f"{where}: type {kind}, but {columns.kinds[ours]} in the first file of the tables; give "
                    "tables of other columns to a run of their own"
                )
            continue
        if not (_holds_codes(kind) if meant == "codes" else _allowed(kind, is_image=ours == "image")):
            advice = ""
            if pa.types.is_nested(kind) and meant != "codes":
                advice = "; jobs/make_table.py --source makes a table of captions in lists and structures"
            raise ValueError(f"{where}: type {kind} is not accepted, only {kinds}{advice}")
    return names


def plain_kind(kind: pa.DataType) -> pa.DataType | None:
    """The type in which a column is carried on from table to table as it is; None if it cannot be."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    inner = kind.value_type if types.is_list(kind) or types.is_fixed_size_list(kind) else kind
    is_plain = types.is_integer(inner) or types.is_floating(inner) or types.is_boolean(inner)
    return kind if is_plain else None


def _as_sent(kind: pa.DataType | None) -> pa.DataType | None:
    """A type as another process gets it: pickled, fixed lists forget whether their items may be null."""
    if kind is None or not pa.types.is_fixed_size_list(kind):
        return kind
    return pa.list_(kind.value_type, kind.list_size)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _holds_codes(kind: pa.DataType) -> bool:
    return _is_list(kind) and kind.value_type == pa.uint16()


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
    """A part's rows, once it is known that no column has an extension type.

    Raises:
        ValueError: it is damaged, or could run code.
    """
    try:
        for field in _metadata(path, io.BytesIO(data)).schema.to_arrow_schema():
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
    """Values as str, bytes or None: a string that is not UTF-8 as bytes, codes as those of their uint16, and
    None for codes with a null among them."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_struct(column.type):
        return column_cells(pc.struct_field(column, "bytes"))
    if _is_list(column.type):
        return [
            None if codes is None or None in codes else np.array(codes, "<u2").tobytes()
            for codes in column.to_pylist()
        ]
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
