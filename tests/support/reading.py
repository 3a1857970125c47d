"""Tables of idx and text for the tests of planning and reading."""

import gzip
import random
from pathlib import Path

from painter_core.tables.columns import Columns
from painter_core.tables.inputs import InputFile, find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import Unit, plan_units

COLUMNS = Columns(schema=("idx", "text"))


def write(path: Path, data: bytes) -> str:
    """Writes a table, and returns its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def planned(
    tables: str, columns: Columns = COLUMNS, micro_batch_size: int = 16, limit: int | None = None
) -> tuple[list[InputFile], list[Unit]]:
    """Files and units."""
    files = find_files(tables)
    return files, plan_units(files, columns, micro_batch_size=micro_batch_size, limit=limit)


def read(files: list[InputFile], units: list[Unit], columns: Columns = COLUMNS) -> list[dict]:
    """What the reader yields for all units, tables as lists."""
    reader = UnitReader(files=files, columns=columns, stage="test", keep_rejected=False)
    found = [
        vars(row) | {"table": row.table.to_pylist(), "rejects": row.rejects.to_pylist()}
        for row in reader.read(units)
    ]
    assert [row["unit"] for row in found] == [u.number for u in units]
    return found


def table(rows: int, seed: int = 0) -> list[bytes]:
    """Lines of different lengths."""
    rng = random.Random(seed)
    return [f"{i}\t{'红色' * rng.randint(1, 40)}{i}".encode() for i in range(rows)]
