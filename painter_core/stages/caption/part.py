"""The part of a unit, as its model operator left it; without torch, since CPU workers import this."""

import pyarrow as pa

from painter_core.tables.unit_row import UnitRow, unpack


def captions_part(row: UnitRow) -> pa.Table:
    """idx, gen_text and what else was asked for."""
    return unpack(row.payload["captions"])
