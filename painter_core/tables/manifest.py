"""The end of a table: sums over all commit records, the single file, manifest.json; and reading it."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from painter_core.files.faults import failpoint
from painter_core.files.object_store import retried
from painter_core.files.storage import filesystem, is_local, join, move, redact, remove, write_bytes
from painter_core.tables.parquet import read_table
from painter_core.tables.plan import FORMAT, Plan
from painter_core.tables.records import read_manifest, read_part, seal
from painter_core.tables.run_directory import RunDirectory, part_name


def read_records(directory: RunDirectory, plan: Plan) -> list[dict[str, Any]]:
    """The commit records of all units.

    Raises:
        RuntimeError: a unit has none.
    """
    numbers = [u.number for u in plan.units]
    with ThreadPoolExecutor(16) as pool:
        records = list(pool.map(directory.read_record, numbers))
    missing = [n for n, record in zip(numbers, records, strict=True) if record is None]
    if missing:
        raise RuntimeError(
            f"{len(missing)} of {len(numbers)} units have no commit record, the first is {missing[0]}"
        )
    return records


def finish(
    directory: RunDirectory, plan: Plan, records: list[dict[str, Any]], extra: dict[str, Any]
) -> dict[str, Any]:
    """Checks the sums over all commit records, makes the single file if one is asked for, writes the
    manifest.

    Args:
        records: commit records of all units.
        extra: what else the table's readers need: its kind, the VQGAN's identity.

    Raises:
        RuntimeError: a row is lost or doubled.
    """
    manifest = {
        "format": FORMAT,
        "stage": plan.stage,
        "fingerprint": plan.fingerprint,
        "identity": plan.identity,
        "settings": plan.settings,
        **_sums(records),
        **_computed(records),
        "parts": [
            {
                "name": part_name(r["unit"]),
                "rows": r["rows_written"],
                "bytes": r["bytes"],
                "sha256": r["sha256"],
            }
            for r in records
        ],
        **extra,
    }
    _check_sizes(directory, manifest["parts"])
    if directory.single_file:
        manifest["joined_bytes"] = _join_parts(directory, manifest["parts"])
    failpoint("manifest_begins")
    directory.write_json(seal(manifest), "manifest.json")
    failpoint("manifest_written")
    write_bytes(*directory.path("_SUCCESS"), b"")
    return manifest


def _sums(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest's sums over all units; RuntimeError if they do not agree."""
    rejected: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for record in records:
        rejected.update(record["rejected"])
        warnings.update(record["warnings"])
    rows_in, rows_out = (sum(r[name] for r in records) for name in ("rows_in", "rows_out"))
    if rows_in != rows_out + rejected.total():
        raise RuntimeError(
            f"the sums do not agree: {rows_in} in, {rows_out} out, {rejected.total()} rejected"
        )
    return {
        "rows_in": rows_in,
        "rows_out": rows_out,
        "rows_rejected": rejected.total(),
        "rejected": dict(rejected),
        "warnings": dict(warnings),
    }


def _computed(records: list[dict[str, Any]]) -> dict[str, Any]:
    """How the model computed, where that was decided on its worker: each way, and of how many units."""
    ways = Counter(json.dumps(r["computed"], sort_keys=True) for r in records if "computed" in r)
    if not ways:
        return {}
    return {"computed": [json.loads(way) | {"units": units} for way, units in sorted(ways.items())]}


def _check_sizes(directory: RunDirectory, parts: list[dict[str, Any]]) -> None:
    """Raises ValueError if a part is not as long as when it was committed, perhaps by an earlier run."""
    fs, path = directory.path()
    found = {entry["name"].rpartition("/")[2]: entry["size"] for entry in fs.ls(path, detail=True)}
    for part in parts:
        if found.get(part["name"]) != part["bytes"]:
            raise ValueError(
                f"{redact(join(directory.url, part['name']))}: {found.get(part['name'])} bytes, but it was "
                f"committed with {part['bytes']:,}: damaged. Remove it and submit again"
            )


def joined_path(directory: RunDirectory) -> str:
    """Where the single file is made before it gets its final name."""
    return directory.path("_run", f"joined{directory.single_file}")[1]


def _join_parts(directory: RunDirectory, parts: list[dict[str, Any]]) -> int:
    """The parts as one file, rows in input order, whole under its final name; returns its size in bytes.

    In a directory that is to replace another one, the file waits for that: the old one stays where it is.
    """
    fs, out = filesystem(directory.outputs)
    temporary = joined_path(directory)
    try:
        if is_local(directory.outputs):
            with open(temporary, "wb") as sink:
                write_joined(directory, parts, sink)
                sink.flush()
                os.fsync(sink.fileno())
        else:
            retried(_upload_joined, directory, parts, temporary)
    except BaseException:
        remove(fs, temporary)
        raise
    size = int(fs.size(temporary))
    if not directory.beside:
        move(fs, temporary, out)
    return size


def _upload_joined(directory: RunDirectory, parts: list[dict[str, Any]], path: str) -> None:
    with directory.path()[0].open(path, "wb") as sink:
        write_joined(directory, parts, sink)


def write_joined(directory: RunDirectory, parts: list[dict[str, Any]], sink: BinaryIO) -> None:
    """The parts that a manifest names, as one file; the same bytes every time."""
    writer = None
    for part in parts:
        failpoint("joined_write")
        path = join(directory.url, part["name"])
        table = read_table(read_part(path, part["sha256"]), path)
        if directory.single_file == ".tsv":
            sink.write(tsv_bytes(table))
        else:
            writer = writer or pq.ParquetWriter(
                sink, table.schema, compression="zstd", write_page_checksum=True
            )
            writer.write_table(table)
    if writer:
        writer.close()


def tsv_bytes(table: pa.Table) -> bytes:
    """Rows as TSV without header or quoting; cells hold no tab and no line end (checked on reading)."""
    columns = [column.to_pylist() for column in table.columns]
    return "".join(
        "\t".join("" if c is None else str(c) for c in cells) + "\n" for cells in zip(*columns, strict=True)
    ).encode()


def iter_parts(outputs: str) -> Iterator[pa.Table]:
    """Parts of a finished table, in order; `outputs` as it was given to the job.

    Raises:
        ValueError: the table is not finished, or a part was changed or is missing.
    """
    directory = RunDirectory(outputs)
    for part in read_manifest(directory.url)["parts"]:
        yield part_rows(directory, part)


def part_rows(directory: RunDirectory, part: dict[str, Any]) -> pa.Table:
    """The rows of a part of the manifest; ValueError if it was changed or is missing."""
    return read_table(read_part(join(directory.url, part["name"]), part["sha256"]), part["name"])


def first_reject(directory: RunDirectory, unit: int) -> dict[str, Any]:
    """The first line of a unit's rejects."""
    fs, path = directory.path("rejects", part_name(unit))
    return read_table(fs.cat_file(path), path).slice(0, 1).to_pylist()[0]
