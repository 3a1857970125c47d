"""A table that generate.py --sweep painted is scored setting by setting, as if each were a table."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from painter_core.stages.evaluate.extract import Extracted
from painter_core.stages.sweeps import changing, pictures_a_setting
from painter_core.tables.run_directory import RunDirectory


def by_setting(name: str, table: str, found: Extracted) -> Iterator[tuple[str, Extracted]]:
    """The pictures of each setting under a name that says it; all of them of a table without a sweep.

    Args:
        name: of the table, in a report of several.
        table: path or URL of what was scored.
        found: its pictures.
    """
    plan = RunDirectory(table).read_json("_run", "plan.json") or {}
    identity = plan.get("identity", {})
    if "sweep" not in identity or np.any(found.number("sample")):
        yield name, found
        return
    settings = changing(identity["sweep"])
    kept = pictures_a_setting(identity)
    # every file of such a table begins with a whole caption, and a caption's lines are setting by setting
    lines = (found.plain.column("row").to_numpy() - 1) % (len(settings) * kept)
    for number, setting in enumerate(settings):
        title = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in setting.items())
        yield f"{name}: {title}", _only(found, lines // kept == number)


def _only(found: Extracted, chosen: np.ndarray) -> Extracted:
    """Some of the pictures."""
    plain = found.plain.filter(pa.array(chosen))
    return Extracted(
        vectors={name: rows[chosen] for name, rows in found.vectors.items()},
        plain=plain,
        part=found.part[chosen],
        rows=dataclasses.replace(found.rows, pictures=len(plain)),
    )
