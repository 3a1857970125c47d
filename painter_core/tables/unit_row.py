"""What travels between the operators: a unit's rows, and what became of the others.

Through Ray a unit travels as one row of a data set, its rows in one cell as an Arrow IPC stream, so that it
cannot be split, merged or half retried, whatever Ray fuses or bundles. `of` and `to_row` are the two ends of
that journey.
"""

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from painter_core.tables.rejects import RejectLog
from schemas import rejects


def pack(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(data: bytes) -> pa.Table:
    """The table of an Arrow IPC stream, without copying."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_all()


def pack_schema(schema: pa.Schema) -> bytes:
    """A schema for another process: pickled it would forget which items of lists cannot be null."""
    return schema.serialize().to_pybytes()


def unpack_schema(data: bytes) -> pa.Schema:
    """What pack_schema() was given."""
    return pa.ipc.read_schema(pa.py_buffer(data))


@dataclass(frozen=True, kw_only=True)
class UnitRow:
    """A unit on its way from the reader to its part."""

    unit: int
    """Its number in the plan."""
    rows_in: int
    """Rows that the reader found; always len(table) + len(rejects)."""
    table: pa.Table
    """Rows that are still good: idx, text, and what later operators need."""
    rejects: pa.Table
    """Lines of the rejects table, by row."""
    warnings: Counter[str]
    """How often each of schemas.rejects.WARNINGS was noticed."""
    payload: dict[str, Any] = field(default_factory=dict)
    """What the operators make of the rows, in their order: bytes and numbers by name."""

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """From a row of a data set; its bytes are not copied."""
        rest = dict(row)
        return cls(
            unit=int(rest.pop("unit")),
            rows_in=int(rest.pop("rows_in")),
            table=unpack(rest.pop("table")),
            rejects=unpack(rest.pop("rejects")),
            warnings=Counter(json.loads(rest.pop("warnings"))),
            payload=rest,
        )

    def to_row(self) -> dict[str, Any]:
        """As a row of a data set."""
        return {
            "unit": self.unit,
            "rows_in": self.rows_in,
            "table": pack(self.table),
            "rejects": pack(self.rejects),
            "warnings": json.dumps({name: count for name, count in self.warnings.items() if count}),
            **self.payload,
        }

    def keep(self, rows: list[int], log: RejectLog, columns: list[str]) -> Self:
        """The unit with fewer rows and columns, and without a payload.

        Args:
            rows: positions in `table` of the rows that stay.
            log: why the others do not.
            columns: that stay.
        """
        found = pa.concat_tables([self.rejects, log.table()]).sort_by("row").cast(rejects.SCHEMA)
        table = self.table.select(columns).take(pa.array(rows, pa.int64()))
        return dataclasses.replace(self, table=table, rejects=found, payload={})

    def carrying(self, **payload: Any) -> Self:
        """The unit with another payload."""
        return dataclasses.replace(self, payload=payload)
