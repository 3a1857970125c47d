"""What a terminal shows of a table job while it runs: a few lines that fit 80 columns."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

QUIET_S = 20.0  # without a finished unit, then the display says since when
MOST_REASONS = 4


@dataclass(frozen=True, kw_only=True)
class TableView:
    """How far a table is; rich draws it."""

    stage: str
    steps: tuple[str, ...]
    """What is done to each unit, in order."""
    units: tuple[int, int]
    """Done, of how many."""
    rows: tuple[int, int]
    """The same in rows."""
    rejected: Mapping[str, int]
    """By reason, the most frequent first."""
    rows_per_s: float
    """Since the first unit came out; 0 before."""
    workers: str
    """`2 workers`; empty without a model."""
    idle_s: float
    """Since the last unit came out, or since the beginning."""

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        yield bar(self.stage, *self.rows, left_s=self.left_s)
        counts = [
            f"{self.rows[0]:,} of {self.rows[1]:,} rows",
            f"unit {self.units[0]:,} of {self.units[1]:,}",
            f"{self.rows_per_s:,.1f} rows/s" if self.rows_per_s else "",
            self.workers,
        ]
        yield Text("  " + " · ".join(filter(None, counts)), "default")
        yield self._rejects()
        if self.steps:
            yield Text("  " + " → ".join(map(words, self.steps)), "dim")
        if not self.units[0]:
            yield Text(f"  workers start: {self.idle_s:.0f} s", "dim")
        elif self.idle_s > QUIET_S:
            yield Text(f"  no unit came out for {self.idle_s:.0f} s", "yellow")

    @property
    def left_s(self) -> float | None:
        """Estimate; None as long as there is nothing to go by."""
        return (self.rows[1] - self.rows[0]) / self.rows_per_s if self.rows_per_s else None

    def _rejects(self) -> Any:
        from rich.text import Text

        if not self.rejected:
            return Text("  none rejected", "dim")
        total = sum(self.rejected.values())
        told = [f"{count:,} {reason}" for reason, count in list(self.rejected.items())[:MOST_REASONS]]
        more = len(self.rejected) - MOST_REASONS
        reasons = ", ".join([*told, f"{more} reasons more"] if more > 0 else told)
        return Text(f"  {total:,} rejected ({total / max(self.rows[0], 1):.1%}): {reasons}", "yellow")


def words(name: str) -> str:
    """The name of a step in words: DecodePictures as `decode pictures`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower()


def bar(name: str, done: float, total: float, *, left_s: float | None) -> Any:
    """A line: name, bar, share, time left."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True, justify="right")
    left = "" if left_s is None else f", {timedelta(seconds=round(left_s))} left"
    line.add_row(
        Text(name, "bold"),
        ProgressBar(total=max(total, 1), completed=done, complete_style="cyan", finished_style="green"),
        Text(f"{done / max(total, 1):.0%}{left}", "default"),
    )
    return line
