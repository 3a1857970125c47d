"""The last operator of a table job: a unit's part, its rejects, its commit record."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from painter_core.files.faults import failpoint
from painter_core.files.storage import remove, sha256, write_bytes
from painter_core.tables.parquet import parquet_bytes
from painter_core.tables.records import seal
from painter_core.tables.run_directory import RunDirectory, part_name
from painter_core.tables.unit_row import UnitRow


@dataclass(frozen=True, kw_only=True)
class PartWriter:
    """Writes rejects, part and commit record, in this order; what it returns is for the driver to count."""

    directory: RunDirectory
    build: Callable[[UnitRow], pa.Table]
    """The part's table of a unit."""

    def __call__(self, row: UnitRow) -> dict[str, Any]:
        began = time.monotonic()
        table, rows_out = self.build(row), len(row.table)
        if row.rows_in != rows_out + len(row.rejects):
            raise RuntimeError(
                f"unit {row.unit}: {row.rows_in} rows in, {rows_out} out, {len(row.rejects)} rejected: a row "
                "was lost"
            )
        name = part_name(row.unit)
        rejected = dict(Counter(row.rejects.column("reason").to_pylist()))
        record: dict[str, Any] = {
            "unit": row.unit,
            "rows_in": row.rows_in,
            "rows_out": rows_out,
            "rows_written": len(table),
            "rejected": rejected,
            "warnings": dict(row.warnings),
        }
        if len(row.rejects):
            data = parquet_bytes(row.rejects)
            write_bytes(*self.directory.path("rejects", name), data)
            record["rejects_sha256"] = sha256(data)
        else:
            remove(*self.directory.path("rejects", name))  # of an attempt that died, and rejected something
        data = parquet_bytes(table)
        write_bytes(*self.directory.path(name), data)
        failpoint("part_written", unit=row.unit)
        record |= {
            "bytes": len(data),
            "sha256": sha256(data),
            "model_s": round(float(row.payload.get("model_s", 0)), 3),
        }
        if "computed" in row.payload:
            record["computed"] = json.loads(row.payload["computed"])
        record["write_s"] = round(time.monotonic() - began, 3)
        self.directory.write_json(seal(record), "_run", "commits", f"{row.unit:06d}.json")
        failpoint("unit_committed", unit=row.unit)
        return counted(record)


def counted(record: dict[str, Any]) -> dict[str, Any]:
    """What the driver counts of a commit record."""
    found = {name: record[name] for name in ("unit", "rows_in", "rows_out")}
    computed = json.dumps(record["computed"]) if "computed" in record else ""
    return found | {"rejected": json.dumps(record["rejected"]), "computed": computed}
