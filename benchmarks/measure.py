"""Timing in turns, memory peaks, and the table that a benchmark prints.

Variants of one part run in turns, round after round, so that whatever else the machine does meets all of them
alike. A ratio is the median over rounds of (baseline's seconds / variant's seconds) of one round.
"""

import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

Work = Callable[[], Any]
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a part is to be measured."""

    device: torch.device
    short: bool
    """Tiny geometry and one round: shows that everything runs, times mean nothing."""
    repeats: int
    threads: int
    cpu_clock: bool = False
    """Time by the process' CPU seconds instead of the wall clock: for one thread on a busy machine."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.process_time() if self.cpu_clock else time.perf_counter()

    def rounds(self, most: int | None = None) -> int:
        """Rounds of a part; slow ones name a smaller number."""
        return 1 if self.short else min(self.repeats, most or self.repeats)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    part: str
    variant: str
    rate: float
    """Median, in `unit`."""
    unit: str
    spread: float = 0.0
    """(slowest - fastest round) / median, in seconds."""
    ratio: float | None = None
    """Speed beside the baseline's in the same round; 1 for the baseline itself."""
    limit_share: float | None = None
    """Rate beside what the arithmetic allows on this machine."""
    peak_bytes: int | None = None
    """Largest resident memory (or GPU memory) of the process while it ran."""
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    """Processes that ran or waited, mean of the last minute."""
    note: str = ""


@dataclass(frozen=True)
class Timing:
    """Seconds of each round of one variant, and its memory peak."""

    seconds: list[float]
    peak_bytes: int | None

    @property
    def median(self) -> float:
        """Median seconds of the rounds."""
        return statistics.median(self.seconds)


def in_turns(
    variants: dict[str, Work], setup: Setup, *, warm: bool = True, most: int | None = None
) -> dict[str, Timing]:
    """Runs variants in turns.

    Args:
        variants: by name; the first is the baseline.
        warm: run each once before.
        most: rounds, if fewer than setup's.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    peaks: dict[str, int] = {}
    if warm:
        for work in variants.values():
            work()
    for _ in range(setup.rounds(most)):
        for name, work in variants.items():
            with _peak(setup.device) as peak:
                began = setup.now()
                work()
                finish(setup.device)
                seconds[name].append(setup.now() - began)
            peaks[name] = max(peaks.get(name, 0), peak())
    return {name: Timing(s, peaks[name] or None) for name, s in seconds.items()}


def rows(
    part: str,
    timings: dict[str, Timing],
    *,
    items: float | dict[str, float],
    unit: str,
    baseline: str | None = None,
    limits: dict[str, float] | None = None,
    notes: dict[str, str] | None = None,
) -> list[Row]:
    """The table's lines of a part.

    Args:
        timings: as in_turns() gives them.
        items: how many `unit`s one run of a variant makes.
        unit: what is counted, without the "/s".
        baseline: the variant that others are compared with; by default the first.
        limits: highest rate of a variant by arithmetic.
    """
    first = baseline or next(iter(timings))
    made = items if isinstance(items, dict) else dict.fromkeys(timings, items)
    found = []
    for name, timing in timings.items():
        pairs = zip(timings[first].seconds, timing.seconds, strict=True)
        ratio = statistics.median((b / made[first]) / (s / made[name]) for b, s in pairs)
        rate = made[name] / timing.median
        limit = (limits or {}).get(name)
        found.append(
            Row(
                part=part,
                variant=name,
                rate=rate,
                unit=f"{unit}/s",
                spread=(max(timing.seconds) - min(timing.seconds)) / timing.median,
                ratio=ratio,
                limit_share=rate / limit if limit else None,
                peak_bytes=timing.peak_bytes,
                note=(notes or {}).get(name, ""),
            )
        )
    return found


@contextmanager
def _peak(device: torch.device) -> Iterator[Callable[[], int]]:
    """Within it the peak is counted anew; 0 where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device)
        return
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")
    yield resident_peak


def resident_peak() -> int:
    """Largest resident memory of this process, in bytes; 0 where the system does not tell."""
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) * 1024 if found else 0


def finish(device: torch.device) -> None:
    """Waits for what a GPU still computes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(setup: Setup) -> dict[str, Any]:
    """What the table's head says."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*:\s*(.+)", cpu)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit.stdout.strip(),
        "cpu": name[1] if name else "unknown",
        "cores": os.cpu_count(),
        "amx_bf16": "amx_bf16" in cpu,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": torch.cuda.get_device_name() if setup.device.type == "cuda" else None,
        "torch": torch.__version__,
        "threads": setup.threads,
        "clock": "CPU" if setup.cpu_clock else "wall",
        "short": setup.short,
        "load": os.getloadavg(),
    }


def markdown(table: list[Row]) -> str:
    """The table for a person."""
    lines = [
        "| part | variant | rate | ratio | of the limit | spread | peak memory | load | note |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table:
        cells = (
            row.part,
            row.variant,
            f"{row.rate:.4g} {row.unit}",
            f"{row.ratio:.2f}" if row.ratio else "",
            f"{row.limit_share:.0%}" if row.limit_share else "",
            f"{row.spread:.0%}",
            f"{row.peak_bytes / 2**20:,.0f} MiB" if row.peak_bytes else "",
            f"{row.load:.1f}",
            row.note,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def as_json(head: dict[str, Any], table: list[Row]) -> str:
    """The same for a machine."""
    return json.dumps({"machine": head, "rows": [asdict(row) for row in table]}, indent=1) + "\n"
