"""Where the pictures that were scored stand in a table of ours: the scores know rows of files."""

import numpy as np

from painter_core.stages.evaluate.extract import Extracted
from painter_core.tables.inputs import InputFile
from painter_core.tables.records import read_manifest
from painter_core.tables.units import Unit


def rows_before(table: str) -> dict[str, int]:
    """Part of a finished table -> the number of rows in the parts before it.

    Args:
        table: the directory.
    """
    parts = read_manifest(table)["parts"]
    before = np.cumsum([0, *(part["rows"] for part in parts)])
    return {part["name"]: int(rows) for part, rows in zip(parts, before[:-1], strict=True)}


def places(found: Extracted, files: list[InputFile], units: list[Unit], before: dict[str, int]) -> np.ndarray:
    """The number of each picture's row in the whole table, from 0, int64 (n,).

    Args:
        files: that were read: the table's parts, or the one file that they were joined to.
        units: into which these were cut.
        before: of rows_before().
    """
    first = [before.get(part_of(files[unit.file].path), 0) for unit in units]
    return np.array(first, np.int64)[found.part] + found.plain.column("row").to_numpy() - 1


def part_of(path: str) -> str:
    """The name of a part by its path."""
    return path.rpartition("/")[2]
