"""A table directory of ours: its plan, parts, commit records, rejects, manifest and summary.

    part-000000.parquet            one a unit
    rejects/part-000000.parquet    only for units with rejects
    _run/plan.json                 what was to be done; written before any work
    _run/commits/000000.json       written after the part; a unit without one was not done
    manifest.json, _SUCCESS        written last, after rows_in == rows_out + rows_rejected over all units
    summary.json                   how the last run ended

`outputs` that end in .tsv or .parquet are one file, made at the end; the directory is then `outputs`.run
beside it. While a run replaces another one (--overwrite), all this stands in a directory beside, with .new to
its name (painter_core.stages.replacement).
"""

import dataclasses
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from painter_core.faults import failpoint
from painter_core.stages.plan import UNIT_FIELDS, Unit, unit_values
from painter_core.stages.readers import unpack
from painter_core.stages.records import read_sealed, seal
from painter_core.stages.tables import InputFile
from painter_core.storage import filesystem, join, read_json, redact, sha256, write_bytes, write_json

FORMAT = 1
SINGLE_FILE = (".tsv", ".parquet")
OURS = re.compile(
    r"\.?part-\d{6,}\.parquet(\.[0-9a-f]{32}\.tmp)?|rejects|_run|_SUCCESS|(manifest|summary|score)\.json|score\.md"
)
# what a kill leaves of the first files that a run writes
UNFINISHED = re.compile(r"\.+(plan\.json|replaces\.json|painter)[-.][-.0-9a-z]+")


class Refused(Exception):
    """The output exists and is not this run's: exit code 4, nothing changed."""


def part_name(unit: int) -> str:
    """File name of a unit's part, in the table and in rejects/."""
    return f"part-{unit:06d}.parquet"


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file; the same bytes for the same rows."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=True, write_page_checksum=True)
    return out.getvalue()


def fingerprint(identity: dict[str, Any]) -> str:
    """sha256 of what makes the rows: stage, weights, tokenizer, preprocessing, seed, sampling, format."""
    return sha256(json.dumps(identity, sort_keys=True).encode())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is to do; plan.json."""

    stage: str
    identity: dict[str, Any]
    """What makes the rows: its sha256 is the fingerprint."""
    settings: dict[str, Any]
    """What else must be the same when a run is resumed: tables, columns, micro-batch, precision."""
    files: list[InputFile]
    units: list[Unit]

    @property
    def fingerprint(self) -> str:
        """Hex digest."""
        return fingerprint(self.identity)

    @property
    def num_rows(self) -> int:
        """Rows (physical lines) in all units."""
        return sum(u.num_rows for u in self.units)

    def to_json(self) -> dict[str, Any]:
        """Units as lists, since there may be 100,000 of them."""
        return {
            "format": FORMAT,
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "identity": self.identity,
            "settings": self.settings,
            "files": [dataclasses.asdict(f) | {"path": redact(f.path)} for f in self.files],
            "unit_fields": list(UNIT_FIELDS),
            "units": [list(unit_values(u)) for u in self.units],
        }


@dataclass(frozen=True)
class RunDirectory:
    """Where a run writes."""

    outputs: str
    """`--outputs` as given."""
    beside: bool = False
    """Whether it is the place of a run that is to replace the one in `outputs`."""

    @property
    def single_file(self) -> str | None:
        """The suffix, if the output is one file."""
        return next((s for s in SINGLE_FILE if self.outputs.endswith(s)), None)

    @property
    def url(self) -> str:
        """The table directory."""
        root = self.outputs + ".run" if self.single_file else self.outputs.rstrip("/")
        return root + ".new" if self.beside else root

    def path(self, *parts: str) -> tuple[Any, str]:
        """File system and path of something in the directory."""
        fs, root = filesystem(self.url)
        return fs, join(root, *parts) if parts else root

    def read_json(self, *parts: str) -> Any:
        """A JSON file of the directory; None if there is none."""
        fs, path = self.path(*parts)
        return read_json(fs, path) if fs.exists(path) else None

    def read_record(self, unit: int) -> Any:
        """A unit's commit record; None if there is none. ValueError if it was changed."""
        fs, path = self.path("_run", "commits", f"{unit:06d}.json")
        return read_sealed(fs, path) if fs.exists(path) else None

    def uncommit(self, unit: int) -> None:
        """Makes a unit one that was not done; the record goes first, so that a kill leaves no half of it."""
        fs, path = self.path("_run", "commits", f"{unit:06d}.json")
        fs.rm_file(path)
        for parts in ((part_name(unit),), ("rejects", part_name(unit))):
            if fs.exists(self.path(*parts)[1]):
                fs.rm_file(self.path(*parts)[1])

    def write_json(self, value: Any, *parts: str) -> None:
        """Writes a JSON file of the directory, whole or not at all."""
        write_json(*self.path(*parts), value)

    def is_complete(self) -> bool:
        """Whether a run reached its end here."""
        return all(self.path()[0].exists(self.path(name)[1]) for name in ("manifest.json", "_SUCCESS"))

    def committed(self) -> set[int]:
        """Numbers of the units that have a commit record, and the part that it speaks of."""
        numbers = [
            {int(found[1]) for name in self._names(*parts) if (found := re.fullmatch(pattern, name))}
            for parts, pattern in (
                (("_run", "commits"), r"(\d{6,})\.json"),
                ((), r"part-(\d{6,})\.parquet"),
            )
        ]
        return numbers[0] & numbers[1]

    def _names(self, *parts: str) -> list[str]:
        fs, path = self.path(*parts)
        return (
            [n.rstrip("/").rsplit("/", 1)[-1] for n in fs.ls(path, detail=False)] if fs.exists(path) else []
        )

    def check_foreign(self) -> None:
        """Raises Refused if something that is not ours stands where the output is to go."""
        fs, path = self.path()
        if dataclasses.replace(self, beside=True).read_json("_run", "replaces.json"):
            return  # a run of ours stood here, and may be half removed
        if self.single_file:
            out_fs, out = filesystem(self.outputs)
            if out_fs.exists(out) and not fs.exists(path):
                raise Refused(
                    f"{redact(self.outputs)} exists and was not made by this job; move it or name "
                    "another --outputs"
                )
        if not fs.exists(path):
            return
        if fs.isfile(path):
            raise Refused(f"{redact(self.url)} is a file; name another --outputs")
        stored = self.read_json("_run", "plan.json")
        name = foreign_name(fs, path) if stored is None else "" if "units" in stored else "_run"
        if name:
            raise Refused(
                f"{redact(self.url)} holds files of another kind ({name}); name an empty or new --outputs"
            )


def foreign_name(fs: AbstractFileSystem, root: str) -> str:
    """The name of something in a directory without a plan that no run left there in its first moments."""
    for directory in (root, join(root, "_run")):
        for name in sorted(fs.ls(directory, detail=False)) if fs.exists(directory) else []:
            base = name.rstrip("/").rpartition("/")[2]
            if base != "_run" and not UNFINISHED.fullmatch(base):
                return base
    return ""


def differences(old: dict[str, Any], plan: Plan) -> list[str]:
    """What differs between a stored plan and a new one, for a person."""
    new = plan.to_json()
    found = []
    for part in ("stage", "identity", "settings", "files"):
        if part in ("identity", "settings"):
            keys = sorted(set(old[part]) | set(new[part]))
            found += [
                f"{k}: was {old[part].get(k)!r}, is {new[part].get(k)!r}"
                for k in keys
                if old[part].get(k) != new[part].get(k)
            ]
        elif old[part] != new[part]:
            found.append(
                f"{part} changed" if part == "files" else f"{part}: was {old[part]!r}, is {new[part]!r}"
            )
    if not found and old["units"] != new["units"]:
        found.append("the units changed (another version of the planner)")
    return found


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
