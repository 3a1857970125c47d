"""Parquet as data sets of Hugging Face have it -> records: pictures as {bytes, path}, captions as strings,
structures, or lists of these."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from painter_core.errors import Reject
from painter_core.files.storage import filesystem, redact
from painter_core.stages.make_table.lines import HEAD_BYTES, refuse_foreign
from painter_core.stages.make_table.records import Keys
from painter_core.stages.make_table.row import Row
from painter_core.tables.parquet import extension_name, open_parquet

BATCH_ROWS = 32  # that are held as Python objects


def parquet_records(url: str, keys: Keys) -> Iterator[tuple[Row, dict[str, Any]]]:
    """The rows of a Parquet file, of the columns that are read.

    Raises:
        ValueError: it is damaged, lacks a column, or has one of an extension type.
    """
    fs, path = filesystem(url)
    number = 0
    try:
        with fs.open(path, "rb") as raw, open_parquet(url, raw) as parquet:
            columns = _columns(url, parquet.schema_arrow, keys)
            for group in range(parquet.num_row_groups):
                for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
                    for position in range(len(batch)):
                        number += 1
                        yield _record(Row(file=redact(url), number=number), batch, position)
    except (pa.ArrowException, OSError) as error:
        head = fs.cat_file(path, start=0, end=HEAD_BYTES)
        if not head.startswith(b"PAR1"):
            refuse_foreign(url, head)
        raise ValueError(f"{redact(url)}: damaged Parquet: {error}; write the file again") from None


def _columns(url: str, schema: pa.Schema, keys: Keys) -> list[str]:
    if missing := keys.missing(schema.names):
        raise ValueError(f"{redact(url)}: {missing}")
    read = keys.columns(schema.names)
    columns = [name for name in schema.names if name in read]
    for name in columns:
        if schema.names.count(name) > 1:
            raise ValueError(f"{redact(url)}: column {name!r} stands twice; rename one")
        if extension := extension_name(schema.field(name)):
            raise ValueError(
                f"{redact(url)}: column {name!r}: the extension type {extension} is not accepted, since such "
                "a type can run code when it is read"
            )
    return columns


def _record(place: Row, batch: pa.RecordBatch, position: int) -> tuple[Row, dict[str, Any]]:
    record = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            record[name] = column[position].as_py()
        except UnicodeDecodeError as error:
            return place.rejected(Reject("text_encoding", f"not UTF-8: {error.object[:16]!r}", name)), {}
    return place, record
