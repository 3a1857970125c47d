"""The last operator of a table job: a unit's part, its rejects, its commit record."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from painter_core.files.faults import failpoint
from painter_core.files.storage import sha256, write_bytes
from painter_core.tables.parquet import parquet_bytes
from painter_core.tables.records import seal
from painter_core.tables.run_directory import RunDirectory, part_name
from painter_core.tables.unit_row import unpack


@dataclass(frozen=True, kw_only=True)
class PartWriter:
    """Last operator of a job: part, then commit record; emits the record.

    Takes rows {unit, rows_in, table, rejects, warnings, started, ...}.
    """

    directory: RunDirectory
    build: Callable[[dict[str, Any]], pa.Table]
    """The part's table of a unit's row."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        unit = int(row["unit"])
        table, rejects = self.build(row), unpack(row["rejects"])
        rows_out = unpack(row["table"]).num_rows
        if row["rows_in"] != rows_out + len(rejects):
            raise RuntimeError(
                f"unit {unit}: {row['rows_in']} rows in, {rows_out} out, {len(rejects)} rejected: a "
                "row was lost"
            )
        name = part_name(unit)
        record = {
            "unit": unit,
            "rows_in": int(row["rows_in"]),
            "rows_out": rows_out,
            "rows_written": len(table),
            "rejected": dict(Counter(rejects.column("reason").to_pylist())),
            "warnings": json.loads(row["warnings"]),
        }
        if len(rejects):
            data = parquet_bytes(rejects)
            write_bytes(*self.directory.path("rejects", name), data)
            record["rejects_sha256"] = sha256(data)
        data = parquet_bytes(table)
        write_bytes(*self.directory.path(name), data)
        failpoint("part_written", unit=unit)
        record |= {
            "bytes": len(data),
            "sha256": sha256(data),
            "model_s": round(float(row.get("model_s", 0)), 3),
        }
        record["write_s"] = round(time.monotonic() - began, 3)
        self.directory.write_json(seal(record), "_run", "commits", f"{unit:06d}.json")
        failpoint("unit_committed", unit=unit)
        return {
            "unit": unit,
            "rows_in": record["rows_in"],
            "rows_out": rows_out,
            "rejected": str(record["rejected"]),
        }
