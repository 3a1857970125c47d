"""How far a table is: counts of the units that came in, the log's line, the circuit breaker, summary.json."""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from painter_core.errors import Stop
from painter_core.files.storage import redact
from painter_core.runs import terminal
from painter_core.runs.flags import TableFlags
from painter_core.runs.table_view import TableView
from painter_core.tables.inputs import InputFile
from painter_core.tables.manifest import first_reject
from painter_core.tables.rejects import describe
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.units import Unit

log = logging.getLogger(__name__)

LINE_S = 10.0  # between lines of the log
HEARTBEAT_S = 60.0  # without a finished unit, then the log says what is waited for
BREAKER_ROWS = 1000


class Progress:
    """Counts of one run.

    Args:
        stage: for messages.
        rejects: where rejected rows are listed, for messages.
        ceiling: --max-reject-fraction.
    """

    def __init__(self, stage: str, rejects: str, ceiling: float) -> None:
        self.stage, self._rejects, self._ceiling = stage, rejects, ceiling
        self._breaker = ""
        self._num_units = self._num_rows = 0  # that are to be done
        self._left: dict[int, Unit] = {}  # in the order in which they begin
        self._files: list[InputFile] = []
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._line = self._added = time.monotonic()
        self._told: set[str] = set()
        self._first: tuple[int, float] | None = None  # rows of the first unit, and when it came
        self.steps: tuple[str, ...] = ()
        """Names of what is done to a unit, for the display."""
        self.workers = ""
        """How many model workers there are, for people."""

    @contextmanager
    def of(self, units: list[Unit], files: list[InputFile]) -> Iterator[None]:
        """While these units are done: the display of a terminal, and a line of the log each minute in which
        none of them comes out.

        Args:
            files: of the plan.
        """
        self._num_units, self._num_rows = len(units), sum(u.num_rows for u in units)
        self._left, self._files = {u.number: u for u in units}, files
        self._added, ended = time.monotonic(), threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        thread.start()
        try:
            with terminal.shown(self.view):
                yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, ended: threading.Event) -> None:
        said = self._added
        while not ended.wait(min(1.0, HEARTBEAT_S)):
            now = time.monotonic()
            if now - max(self._added, said) < HEARTBEAT_S or not (left := dict(self._left)):
                continue
            said, unit = now, next(iter(left.values()))
            log.info(
                "%s: no unit came out for %.0f s; %d are left, the oldest is unit %d (%s, rows %s to %s)",
                self.stage,
                now - self._added,
                len(left),
                unit.number,
                redact(self._files[unit.file].path),
                f"{unit.first_row:,}",
                f"{unit.first_row + unit.num_rows - 1:,}",
            )

    def add(self, record: dict[str, Any]) -> None:
        """Counts what PartWriter emitted for a unit.

        Raises:
            Stop: one reason took more than half of the first rows: the data are not at fault.
        """
        self._added = time.monotonic()
        self._first = self._first or (record["rows_in"], self._added)
        del self._left[record["unit"]]
        self._counts.update(units=1, rows_in=record["rows_in"], rows_out=record["rows_out"])
        self._rejected.update(json.loads(record["rejected"]))
        self._tell(record.get("computed", ""))
        rows = self._counts["rows_in"]
        if rows < BREAKER_ROWS or rows - record["rows_in"] >= BREAKER_ROWS:
            return
        reason, count = next(iter(self._rejected.most_common(1)), ("", 0))
        if count > max(0.5, self._ceiling) * rows:
            self._breaker = reason
            raise Stop(
                3,
                f"{count:,} of the first {rows:,} rows were rejected as {reason}: this is not your data, or "
                f"not these columns; see {self._rejects}. When that is mended, submit again: these units are "
                "done anew",
            )

    def _tell(self, computed: str) -> None:
        """Says once how a worker's model computes, if it could not compute as it should."""
        if not computed or computed in self._told:
            return
        self._told.add(computed)
        if reason := json.loads(computed).get("reason"):
            log.warning(
                "CUDA graphs off on a worker: %s; painting is 2 to 3 times slower; run make gpu-check", reason
            )

    def log(self, seconds: float, *, now: bool = False) -> None:
        """A line of the log, if the last one is some time ago.

        Args:
            seconds: since the run began.
            now: in any case.
        """
        if not now and (terminal.is_live() or time.monotonic() - self._line < LINE_S):
            return
        self._line = time.monotonic()
        rows, left = self._counts["rows_in"], self._num_rows - self._counts["rows_in"]
        told = [f"{self._counts['units']} of {self._num_units} units", f"{rows:,} of {self._num_rows:,} rows"]
        told += [f"{self._rejected.total()} rejected"]
        if not left:
            told += [f"{rows / max(seconds, 1e-9):.1f} rows/s, {seconds:.0f} s in all"]
        elif rate := self._rate():
            told += [f"{rate:.1f} rows/s, {left / rate:.0f} s left"]
        log.info("%s: %s", self.stage, ", ".join(told))

    def _rate(self) -> float:
        """Rows a second since the first unit came out, before which workers start; 0 as long as it is one."""
        rows = self._counts["rows_in"]
        if self._first is None or rows <= self._first[0]:
            return 0.0
        return (rows - self._first[0]) / max(time.monotonic() - self._first[1], 1e-9)

    def view(self) -> TableView:
        """What a terminal shows now."""
        return TableView(
            stage=self.stage,
            steps=self.steps,
            units=(self._counts["units"], self._num_units),
            rows=(self._counts["rows_in"], self._num_rows),
            rejected=dict(self._rejected.most_common()),
            rows_per_s=self._rate(),
            workers=self.workers,
            idle_s=time.monotonic() - self._added,
        )

    def summary(self, code: int, message: str, seconds: float) -> dict[str, Any]:
        """summary.json."""
        rows = self._counts["rows_in"]
        return {
            "stage": self.stage,
            "exit_code": code,
            "message": message,
            "units_done": self._counts["units"],
            "units_pending": self._num_units - self._counts["units"],
            "rows_in": rows,
            "rows_out": self._counts["rows_out"],
            "rejected": dict(self._rejected.most_common()),
            "breaker": self._breaker,
            "seconds": round(seconds, 3),
            "rows_per_s": round(rows / seconds, 3) if seconds else 0.0,
            "next": "" if code == 0 else "submit the same command again" if code in (1, 130) else message,
        }


def drop_what_broke(directory: RunDirectory) -> None:
    """Makes units pending again if the last run's circuit breaker says that their rows were not at fault."""
    reason = (directory.read_json("summary.json") or {}).get("breaker")
    for unit in directory.committed() if reason else ():
        record = directory.read_record(unit)
        if record["rejected"].get(reason, 0) > record["rows_in"] / 2:
            directory.uncommit(unit)


def check_ceiling(records: list[dict[str, Any]], flags: TableFlags, directory: RunDirectory) -> None:
    """Raises Stop if more rows were rejected than --max-reject-fraction allows.

    Args:
        records: commit records of all units.
        directory: of the table.
    """
    rows, ceiling = sum(record["rows_in"] for record in records), flags.max_reject_fraction
    rejected: Counter[str] = Counter()
    for record in records:
        rejected.update(record["rejected"])
    if rows == 0:
        raise Stop(3, f"{redact(flags.tables)} has no rows, only blank lines")
    reasons = ", ".join(f"{n} {reason}" for reason, n in rejected.most_common(5))
    where = f"{redact(directory.url)}/rejects"
    if rejected.total() == rows:
        first = describe(first_reject(directory, next(r["unit"] for r in records if r["rejected"])))
        raise Stop(
            3,
            f"all of {rows:,} rows were rejected ({reasons}): this is the wrong table, or not its columns. "
            f"The first is {first}; the others are in {where}",
        )
    if rejected.total() > ceiling * rows:
        raise Stop(
            3,
            f"{rejected.total():,} of {rows:,} rows were rejected ({reasons}), more than "
            f"--max-reject-fraction {ceiling:g}; see {where}. All other rows are committed: to accept the "
            "loss, submit again with a larger --max-reject-fraction",
        )
