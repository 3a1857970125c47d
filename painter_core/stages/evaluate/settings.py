"""A table that generate.py --sweep painted is scored setting by setting, as if each were a table."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from painter_core.files.storage import filesystem, join
from painter_core.stages.evaluate.extract import Extracted
from painter_core.stages.evaluate.places import places, rows_before
from painter_core.stages.sweeps import changing, painted_by
from painter_core.tables.parquet import open_parquet
from painter_core.tables.reader import UnitReader
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.units import Unit


def by_setting(
    name: str, table: str, found: Extracted, reader: UnitReader, units: list[Unit]
) -> Iterator[tuple[str, Extracted]]:
    """The pictures of each setting under a name that says it; all of them of a table without a sweep.

    Args:
        name: of the table, in a report of several.
        table: path or URL of what was scored.
        found: its pictures.
        reader: that read it.
        units: into which it was cut.
    """
    directory = RunDirectory(table)
    painted = painted_by(directory.read_json("manifest.json") or {})
    settings = changing(painted.get("sweep", [{}]))
    if len(settings) == 1 or np.any(found.number("sample")):
        yield name, found
        return
    before = rows_before(directory.url)
    told = _columns(directory.url, list(before), list(settings[0]))
    at = places(found, reader.files, units, before)
    for setting in settings:
        title = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in setting.items())
        chosen = np.all([told.column(key).to_numpy() == value for key, value in setting.items()], axis=0)
        if np.any(chosen[at]):  # of the first few rows of a table not every setting has pictures
            yield f"{name}: {title}", _only(found, chosen[at])


def _columns(table: str, parts: list[str], names: list[str]) -> pa.Table:
    """Some columns of all rows of a table."""
    fs, root = filesystem(table)
    found: list[Any] = []
    for part in parts:
        with fs.open(join(root, part), "rb") as raw, open_parquet(part, raw) as parquet:
            found.append(parquet.read(columns=names))
    return pa.concat_tables(found)


def _only(found: Extracted, chosen: np.ndarray) -> Extracted:
    """Some of the pictures."""
    plain = found.plain.filter(pa.array(chosen))
    return Extracted(
        vectors={name: rows[chosen] for name, rows in found.vectors.items()},
        plain=plain,
        part=found.part[chosen],
        rows=dataclasses.replace(found.rows, pictures=len(plain)),
    )
