"""The plan of a run: what is to be done, and what must be the same when it is resumed (plan.json)."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from painter_core.files.storage import redact, sha256
from painter_core.tables.inputs import InputFile
from painter_core.tables.units import UNIT_FIELDS, Unit, unit_values

FORMAT = 1


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
        """Hex sha256 of the identity."""
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


def stored_units(plan: dict[str, Any]) -> list[Unit]:
    """The units of a plan.json."""
    if tuple(plan["unit_fields"]) != UNIT_FIELDS:
        raise ValueError(f"_run/plan.json: units of {plan['unit_fields']}, expected {list(UNIT_FIELDS)}")
    return [Unit(**dict(zip(UNIT_FIELDS, values, strict=True))) for values in plan["units"]]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between a stored plan and a new one, for a person; empty if the run can be resumed.

    Units are not compared: a run goes on with those of its plan, also if they would be cut otherwise now.

    Args:
        old, new: plan.json of a table or of a training run, which has no files and units.
    """
    found = [] if old["stage"] == new["stage"] else [f"stage: was {old['stage']!r}, is {new['stage']!r}"]
    for part in ("identity", "settings"):
        before, after = old.get(part, {}), new.get(part, {})
        found += [
            f"{key}: was {before.get(key)!r}, is {after.get(key)!r}"
            for key in sorted({*before, *after})
            if before.get(key) != after.get(key)
        ]
    if old.get("files") != new.get("files"):
        found.append("files changed")
    return found
