"""The tables that jobs/upscale.py reads: which columns they have, so that all of them are carried on."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from painter_core.files.storage import redact
from painter_core.stages.sweeps import painted_by
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.tables.columns import PLACE, Columns
from painter_core.tables.inputs import InputFile, find_files
from painter_core.tables.parquet import extension_name, parquet_footer, plain_kind
from painter_core.tables.records import read_manifest
from painter_core.tables.run_directory import RunDirectory, table_url
from painter_core.tables.tsv import open_tsv

HEAD_BYTES = 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is read, and what is written of it."""

    tables: str
    """As --tables, but a single file of ours by its directory, whose parts know their types and sums."""
    columns: Columns
    schema: pa.Schema
    """Of the output: the columns of the input, in their order."""
    painted: dict[str, Any]
    """What made the pictures, if the tables are one table of ours; else empty."""
    row_bytes: int
    """Of a row of the input, about."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns of text that are carried on."""
        return tuple(
            name
            for name in self.columns.extra
            if (self.columns.kinds or {}).get(name, pa.string()) == pa.string()
        )


def find_source(config: UpscaleConfig) -> Source:
    """What the flags name.

    Raises:
        ValueError: a table cannot be read, or has a column that cannot be carried on.
    """
    names = [name.strip() for name in config.table.tables.split(",")]
    tables = ",".join(table_url(name) for name in names)
    files = find_files(tables, outputs=RunDirectory(config.table.outputs).outputs)
    if len({file.kind == "parquet" for file in files}) > 1:
        raise ValueError(
            f"--tables {redact(tables)}: TSVs and Parquet files, whose columns are of different types; give "
            "each to a run of its own"
        )
    columns = Columns.of_flags(
        config.input_schema,
        idx_column=config.idx_column,
        first_sequence=None,
        second_sequence=config.second_sequence,
        skip_first_line=config.skip_first_line,
        quoting=config.quoting,
        encoding=config.encoding,
    )
    schema = _parquet_schema(files[0], config) if files[0].kind == "parquet" else _tsv_schema(columns, config)
    if files[0].kind == "parquet" and config.idx_column == "idx" and "idx" in schema.names:
        columns = dataclasses.replace(columns, idx="idx")
    rest = [name for name in schema.names if name not in (columns.idx, config.second_sequence)]
    _check_names(rest, columns, config)
    kinds = {name: schema.field(name).type for name in rest} if files[0].kind == "parquet" else None
    columns = dataclasses.replace(columns, extra=tuple(rest), kinds=kinds)
    return Source(
        tables=tables,
        columns=columns,
        schema=schema,
        painted=_painted(tables),
        row_bytes=_row_bytes(files[0]),
    )


def _parquet_schema(file: InputFile, config: UpscaleConfig) -> pa.Schema:
    """The columns of a file as they are written again."""
    found, where = parquet_footer(file)[1], redact(file.path)
    if config.second_sequence not in found.names:
        raise ValueError(
            f"{where}: column {config.second_sequence!r}: not among {found.names}; name the column of the "
            "picture by --second-sequence"
        )
    fields = []
    for field in found:
        kind = None if extension_name(field) else plain_kind(field.type)
        is_bytes = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
        if field.name == config.second_sequence and any(of(field.type) for of in is_bytes):
            kind = pa.binary()
        if field.name == config.second_sequence and kind not in (pa.string(), pa.binary()):
            raise ValueError(f"{where}: column {field.name!r}: type {field.type}, expected string or binary")
        if kind is None:
            raise ValueError(
                f"{where}: column {field.name!r}: type {field.type} cannot be carried on, only text, numbers "
                "and lists of numbers; leave the column out"
            )
        if pa.types.is_nested(kind) and config.table.outputs.endswith(".tsv"):
            raise ValueError(
                f"--outputs {redact(config.table.outputs)}: the lists of the column {field.name!r} do not go "
                "into a TSV; name a directory or X.parquet"
            )
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def _row_bytes(file: InputFile) -> int:
    """Bytes of a row: the mean of a Parquet file, or of a TSV's first rows."""
    if file.kind == "parquet":
        return file.size_bytes // max(parquet_footer(file)[0].num_rows, 1)
    with open_tsv(file) as stream:
        head = stream.read(HEAD_BYTES)
    return len(head) // max(head.count(b"\n"), 1)


def _tsv_schema(columns: Columns, config: UpscaleConfig) -> pa.Schema:
    """The columns of a TSV: all of them are text."""
    for flag, name in (("--second-sequence", config.second_sequence), ("--idx-column", columns.idx)):
        if name is not None and name not in columns.schema:
            raise ValueError(f"{flag} {name}: no such column in --input-schema {config.input_schema}")
    return pa.schema([pa.field(name, pa.string()) for name in columns.schema])


def _check_names(names: list[str], columns: Columns, config: UpscaleConfig) -> None:
    """Raises ValueError for columns whose names mean something else in a unit's table."""
    taken = {*PLACE, "image", "pictures", "listed"} | ({"idx"} if columns.idx != "idx" else set())
    if clash := sorted(taken & {*names}):
        raise ValueError(
            f"--tables {redact(config.table.tables)}: columns {clash} are names of our own here; rename them"
        )


def _painted(tables: str) -> dict[str, Any]:
    """What made the pictures of one table of ours, also if they were enlarged before."""
    if "," in tables or RunDirectory(tables).read_json("_run", "plan.json") is None:
        return {}
    manifest = read_manifest(table_url(tables))
    if manifest.get("table") != "outputs":
        return {}
    return painted_by(manifest)
