"""What becomes of rows that cannot be used: a table of their own beside the output, and a limit."""

import logging
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from painter_core.errors import Reject, Stop
from painter_core.files.storage import filesystem, join, redact, remove, write_bytes
from painter_core.stages.make_table.row import Row
from painter_core.tables.parquet import parquet_bytes
from painter_core.tables.rejects import RejectLog, describe
from schemas import rejects

log = logging.getLogger(__name__)

FIRST_ROWS = 1000  # of which one reason may not take more than half, as in table jobs
_LINES = 1000  # that are held as Python objects, before they become Arrow


def _text(cell: str) -> str:
    """What of a cell that is not UTF-8 can stand in a table."""
    return cell.encode("utf-8", "replace").decode()


def rejects_path(outputs: str) -> str:
    """Where the rejected rows of an output go: a name that no directory of tables takes for a table."""
    directory, _, name = outputs.rpartition("/")
    hidden = f"_rejects-{name.removesuffix('.parquet')}.parquet"
    return join(directory, hidden) if directory or outputs.startswith("/") else hidden


class Rejected:
    """Counts rows, and keeps those that are rejected.

    Args:
        outputs: the table.
        max_fraction: more rejects than this share end the run.
    """

    def __init__(self, outputs: str, max_fraction: float) -> None:
        self._outputs, self._max_fraction = outputs, max_fraction
        self._log = RejectLog(stage="make_table")
        self._tables: list[pa.Table] = []
        self._first = ""
        self.rows_in = 0
        self.reasons: Counter[str] = Counter()

    def good(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows that can be used.

        Raises:
            Stop: one reason took most of the first rows; the rejects are written.
        """
        for row in rows:
            self.rows_in += 1
            error = row.error or self._not_for_tsv(row)
            if error is None:
                yield row
            else:
                self._add(row, error)
            if self.rows_in == FIRST_ROWS and self.reasons:
                reason, count = self.reasons.most_common(1)[0]
                if count > FIRST_ROWS // 2 and count > self._max_fraction * FIRST_ROWS:
                    self._stop(f"{reason} on {count} of the first {FIRST_ROWS:,} rows")

    def _not_for_tsv(self, row: Row) -> Reject | None:
        if self._outputs.endswith(".tsv") and any(c in row.idx + row.text for c in "\t\r\n"):
            return Reject("text_control", "a tab or a line end, which a TSV cannot hold: write a .parquet")
        return None

    def _add(self, row: Row, error: Reject) -> None:
        place = {"file": row.file, "row": row.number, "byte_offset": row.byte_offset}
        self._log.add(place | {"idx": _text(row.idx), "text": _text(row.text)}, error)
        self.reasons[error.reason] += 1
        self._first = self._first or describe(self._log.lines[0])
        if len(self._log.lines) == _LINES:
            self._flush()

    def _flush(self) -> None:
        self._tables.append(self._log.table())
        self._log.lines.clear()

    def check(self) -> None:
        """Writes the rejects, once all rows are in.

        Raises:
            Stop: there are too many.
        """
        count = self.reasons.total()
        if count > self._max_fraction * self.rows_in or (count and count == self.rows_in):
            self._stop(f"{count:,} of {self.rows_in:,} rows were rejected")
        self._write()
        if count:
            log.warning(
                "%s of %s rows were rejected (%s), listed in %s; the first is %s",
                f"{count:,}",
                f"{self.rows_in:,}",
                ", ".join(f"{reason} {number:,}" for reason, number in self.reasons.most_common()),
                redact(rejects_path(self._outputs)),
                self._first,
            )

    def _stop(self, what: str) -> None:
        self._write()
        raise Stop(
            3,
            f"{what}, more than --max-reject-fraction {self._max_fraction:g}; no table was written. The "
            f"first is {self._first}. All of them: {redact(rejects_path(self._outputs))}",
        )

    def _write(self) -> None:
        fs, path = filesystem(rejects_path(self._outputs))
        if not self.reasons:
            remove(fs, path)  # of the table that is replaced
            return
        self._flush()
        write_bytes(fs, path, parquet_bytes(pa.concat_tables(self._tables).cast(rejects.SCHEMA)))
