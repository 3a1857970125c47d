"""Parquet files: footers, rows and columns, none of them on trust."""

import base64
import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from painter_core.files.storage import filesystem, redact
from painter_core.tables.inputs import InputFile


def parquet_footer(file: InputFile) -> tuple[pq.FileMetaData, pa.Schema]:
    """A Parquet file's metadata and schema.

    Raises:
        ValueError: it is damaged, or a column has an extension type.
    """
    fs, path = filesystem(file.path)
    try:
        with fs.open(path, "rb") as raw:
            metadata = pq.read_metadata(raw)
            refuse_extension_types(file.path, metadata)
            return metadata, metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{redact(file.path)}: not a whole Parquet file: {error}; write it again") from None


def read_table(data: bytes, path: str) -> pa.Table:
    """A part's rows; its columns are held against extension types first.

    Raises:
        ValueError: it is damaged, or could run code.
    """
    try:
        refuse_extension_types(path, pq.read_metadata(io.BytesIO(data)))
        return pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{redact(path)}: damaged ({error}); inspect_table.py --verify says more") from None


def refuse_extension_types(path: str, metadata: pq.FileMetaData) -> None:
    """A pickled extension type would run code when it is read, so the footer's bytes are searched before."""
    stored = (metadata.metadata or {}).get(b"ARROW:schema", b"")
    try:
        found = b"ARROW:extension" in base64.b64decode(stored)
    except ValueError:
        raise ValueError(f"{redact(path)}: damaged ARROW:schema in the footer; write it again") from None
    if found:
        raise ValueError(
            f"{redact(path)}: a column has an Arrow extension type; such a type can run code when it is "
            "read. Write the table again with plain string and binary columns"
        )


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file; the same bytes for the same rows."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=True, write_page_checksum=True)
    return out.getvalue()


def column_cells(column: pa.ChunkedArray) -> list[str | bytes | None]:
    """Values as str, bytes or None: a string that is not UTF-8 as bytes, codes as those of their uint16."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_struct(column.type):
        return column_cells(pc.struct_field(column, "bytes"))
    if pa.types.is_fixed_size_list(column.type):
        return [codes and np.array(codes, "<u2").tobytes() for codes in column.to_pylist()]
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
