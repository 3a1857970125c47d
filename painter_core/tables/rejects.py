"""Rejected rows as lines of the rejects table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from painter_core.errors import Reject
from painter_core.text.escape import visible
from schemas import rejects

MAX_IDX_CHARS = 1024
IDX_SHOWN_CHARS = 80
DETAIL_CHARS = 500
TEXT_KEPT_CHARS = 200  # of the caption, in a reject whose cell is not kept


@dataclass(kw_only=True)
class RejectLog:
    """The rejects of one unit."""

    stage: str
    keep_cell: bool = False
    lines: list[dict[str, Any]] = field(default_factory=list)

    def add(self, place: dict[str, Any], error: Reject, *, cell: str | bytes | None = None) -> None:
        """Sets a row aside. `place`: file, row, byte_offset and, where known, idx and text."""
        idx, text = place.get("idx"), place.get("text")
        if isinstance(cell, str):
            cell = cell.encode("utf-8", "replace")
        self.lines.append(
            {
                "stage": self.stage,
                "file": place["file"],
                "row": place["row"],
                "byte_offset": place["byte_offset"],
                "idx": idx and idx[:MAX_IDX_CHARS],
                "column": error.column,
                "reason": error.reason,
                "detail": error.detail[:DETAIL_CHARS],
                # whole beside its cell: then the row can be given to a job again
                "text": text and (text if self.keep_cell else text[:TEXT_KEPT_CHARS]),
                "cell": cell if self.keep_cell else None,
            }
        )

    def table(self) -> pa.Table:
        """Lines of the rejects table."""
        return pa.Table.from_pylist(self.lines, schema=rejects.SCHEMA)


def describe_warnings(counts: Mapping[str, int]) -> list[str]:
    """What was noticed about rows that are kept, as messages."""
    return [f"{count:,} {name}: {rejects.WARNINGS[name]}" for name, count in sorted(counts.items()) if count]


def describe(line: dict[str, Any]) -> str:
    """A line of the rejects table as a message: reason, place, what was found; harmless in a terminal."""
    place = [f"{line['file']} {'line' if line['byte_offset'] is not None else 'row'} {line['row']}"]
    place += [f"idx {line['idx'][:IDX_SHOWN_CHARS]!r}"] if line["idx"] else []
    place += [f"column {line['column']}"] if line["column"] else []
    return visible(
        f"{line['reason']}: {', '.join(place)}: {line['detail']} ({rejects.REASONS[line['reason']]})"
    )
