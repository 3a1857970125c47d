"""The rows of any table, a unit at a time: input files through plan and reader, or parts of ours."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from painter_core.files.storage import join, redact
from painter_core.images.decode import encode_image
from painter_core.tables.columns import ROW_NUMBER, Columns, parse_input_schema
from painter_core.tables.inputs import InputFile, find_files
from painter_core.tables.parquet import parquet_footer, read_table
from painter_core.tables.reader import UnitReader
from painter_core.tables.run_directory import RunDirectory, check_plan, part_name
from painter_core.tables.tsv import open_tsv
from painter_core.tables.tsv_head import refuse_foreign
from painter_core.tables.units import Unit, plan_units

if TYPE_CHECKING:
    from painter_core.stages.inspect_table.config import InspectConfig

PICTURE_COLUMNS = ("imgbase64", "image", "gen_imgbase64")
KINDS = {"precompute": "codes", "generate": "outputs", "evaluate": "scores", "caption": "captions"}
HEAD_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows of a table."""

    idx: list[str]
    texts: list[str]
    cells: list[str | bytes | None] | None = None
    codes: np.ndarray | None = None
    """uint16 (N, image_len)."""
    rejects: list[dict[str, Any]] = field(default_factory=list)
    """Lines of the rejects table."""
    warnings: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table that can be read."""

    kind: str
    schema: list[str]
    num_files: int
    num_bytes: int
    num_rows: int
    rows_to_read: int
    has_pictures: bool
    run: dict[str, Any] | None = None
    rejects: Counter[str] | None = None
    """The number of all rows, if it is known without reading them."""
    warnings: Counter[str] | None = None
    read: Callable[[], Iterator[Rows]]
    """Rows, in order."""
    paint: Callable[[np.ndarray], bytes] | None = None
    """A picture of a row's codes."""


def open_source(config: "InspectConfig") -> Source:
    """The table behind --tables.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    directory = RunDirectory(config.tables)
    if directory.read_json("_run", "plan.json") is not None:
        return _open_run(config, directory)
    return _open_input(config)


def spread(sizes: list[int], max_rows: int) -> list[int]:
    """Positions of evenly spread units of about max_rows rows together; 0: of all."""
    step = max(1, -(-sum(sizes) // max_rows)) if max_rows else 1
    return list(range(0, len(sizes), step))


def _read_input(reader: UnitReader, units: list[Unit]) -> Iterator[Rows]:
    """Rows of input files."""
    for unit in reader.read(units):
        table = unit.table
        yield Rows(
            idx=table["idx"].to_pylist(),
            texts=table["text"].to_pylist() if reader.columns.text else [""] * len(table),
            cells=table["image"].to_pylist() if reader.columns.image else None,
            rejects=unit.rejects.to_pylist(),
            warnings=unit.warnings,
        )


def _open_input(config: "InspectConfig") -> Source:
    files = find_files(config.tables)
    columns, schema = _columns(config, files[0])
    units = plan_units(files, columns, micro_batch_size=1, limit=None)
    chosen = [units[i] for i in spread([u.num_rows for u in units], config.max_rows)]
    reader = UnitReader(files=files, columns=columns, stage="inspect", keep_rejected=False)
    return Source(
        kind="pairs" if columns.image else "prompts",
        schema=schema,
        num_files=len(files),
        num_bytes=sum(f.size_bytes for f in files),
        num_rows=sum(u.num_rows for u in units),
        rows_to_read=sum(u.num_rows for u in chosen),
        has_pictures=columns.image is not None,
        read=lambda: _read_input(reader, chosen),
    )


def _columns(config: "InspectConfig", file: InputFile) -> tuple[Columns, list[str]]:
    """What is read of the files, by the first one, and its schema for a person.

    A table without idx has row numbers, one without captions none, unless the column was asked for by name.
    """
    if file.kind == "parquet":
        schema = parquet_footer(file)[1]
        names, shown = tuple(schema.names), [f"{f.name} {f.type}" for f in schema]
    else:
        names = parse_input_schema(config.input_schema) if config.input_schema else _tsv_names(file)
        shown = [f"{name} string" for name in names]
    image = config.second_sequence or next((n for n in PICTURE_COLUMNS if n in names), None)
    columns = Columns(
        schema=names,
        idx=_found(config.idx_column, "idx", names),
        text=_found(config.first_sequence, "text", names),
        image=image,
        skip_first_line=config.skip_first_line,
        quoting=config.quoting,
        encoding=config.encoding,
    )
    return columns, shown


def _found(flag: str, default: str, names: tuple[str, ...]) -> str | None:
    """A column by its flag; None if it has the default name and is not there, or is `row`."""
    return None if flag == ROW_NUMBER or (flag == default and flag not in names) else flag


def _tsv_names(file: InputFile) -> tuple[str, ...]:
    with open_tsv(file) as stream:
        head = stream.read(HEAD_BYTES)
    refuse_foreign(file, head)
    cells = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].removesuffix(b"\r").split(b"\t")
    if cells[:2] == [b"idx", b"text"]:
        return tuple(cell.decode("utf-8", "replace") for cell in cells)
    if len(cells) > 3:
        raise ValueError(
            f"{redact(file.path)}: {len(cells)} columns in the first line, expected 1 (captions), 2 (idx, "
            "text) or 3 (and imgbase64); name them with --input-schema"
        )
    return ("text",) if len(cells) == 1 else ("idx", "text", "imgbase64")[: len(cells)]


def _read_run(directory: RunDirectory, records: list[dict[str, Any]]) -> Iterator[Rows]:
    """Rows of a table that our jobs write, by commit records."""
    for record in records:
        name = part_name(record["unit"])
        table = _read_part(directory, name)
        names, blank = table.column_names, [""] * len(table)
        text = next((name for name in ("gen_text", "text") if name in names), None)
        yield Rows(
            idx=table["idx"].to_pylist() if "idx" in names else blank,
            texts=table[text].to_pylist() if text else blank,
            cells=table["gen_imgbase64"].to_pylist() if "gen_imgbase64" in names else None,
            codes=_codes(table) if "codes" in names else None,
            rejects=_read_part(directory, "rejects", name).to_pylist() if record["rejected"] else [],
        )


def _read_part(directory: RunDirectory, *name: str) -> pa.Table:
    fs, path = directory.path(*name)
    if not fs.exists(path):
        raise ValueError(f"{redact(path)}: missing; see --verify")
    return read_table(fs.cat_file(path), path)


def _painter(directory: RunDirectory) -> Callable[[np.ndarray], bytes]:
    """uint16 (image_len,) -> an encoded picture, by the VQGAN in the table."""

    @cache
    def model() -> Any:
        from painter_core.model_files.open import open_model  # torch, only if pictures are asked for

        return open_model(join(directory.url, "_run", "vqgan")).load_vqgan()

    def paint(codes: np.ndarray) -> bytes:
        import torch

        from painter_core.images.pixels import to_uint8

        with torch.inference_mode():
            pixels = model().decode(torch.from_numpy(codes.astype(np.int64))[None])
        return encode_image(to_uint8(pixels)[0])

    return paint


def _codes(table: pa.Table) -> np.ndarray:
    column = table["codes"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _open_run(config: "InspectConfig", directory: RunDirectory) -> Source:
    plan = check_plan(directory.path("_run", "plan.json")[1], directory.read_json("_run", "plan.json"))
    if "unit_fields" not in plan:
        raise ValueError(f"{redact(config.tables)}: a {plan['stage']} run, not a table; --verify takes it")
    total, done = len(plan["units"]), sorted(directory.committed())
    with ThreadPoolExecutor(16) as pool:
        records = list(pool.map(directory.read_record, done))
    manifest = directory.read_json("manifest.json")
    summary = directory.read_json("summary.json") or {}
    chosen = [records[i] for i in spread([r["rows_written"] for r in records], config.max_rows)]
    rejected: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for record in records:
        rejected.update(record["rejected"])
        warnings.update(record["warnings"])
    rows_in = sum(r["rows_in"] for r in records)
    kind = KINDS.get(plan["stage"], plan["stage"])
    schema = _read_part(directory, part_name(done[0])).schema if done else []
    return Source(
        kind=kind,
        schema=[f"{f.name} {f.type}" for f in schema],
        num_files=len(records),
        num_bytes=sum(r["bytes"] for r in records),
        num_rows=sum(r["rows_written"] for r in records),
        rows_to_read=sum(r["rows_written"] for r in chosen),
        has_pictures=kind == "outputs",
        run={
            "stage": plan["stage"],
            "finished": manifest is not None,
            "fingerprint": plan["fingerprint"],
            "units_done": len(done),
            "units_left": total - len(done),
            "rows_in": rows_in,
            "rows_out": sum(r["rows_out"] for r in records),
            "rows_rejected": rejected.total(),
            "last_exit_code": summary.get("exit_code"),
        },
        rejects=rejected,
        warnings=warnings,
        read=lambda: _read_run(directory, chosen),
        paint=_painter(directory),
    )
