"""A unit as the reader gives it, made by hand."""

from collections import Counter

import pyarrow as pa

from painter_core.tables.unit_row import UnitRow
from schemas import rejects


def unit_row(table: pa.Table) -> UnitRow:
    """A unit of which no row was rejected yet."""
    return UnitRow(
        unit=0, rows_in=len(table), table=table, rejects=rejects.SCHEMA.empty_table(), warnings=Counter()
    )
