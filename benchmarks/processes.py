"""Memory of a command and of all processes that it starts, while it runs."""

import os
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PROC = Path("/proc")
SAMPLE_S = 3.0  # a look at the pages of 10 GB takes a while of a core


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a command went."""

    seconds: float
    peak_bytes: int
    """Largest sum over its processes of proportional set sizes: shared pages are counted once."""
    driver_peak_bytes: int
    """Largest resident size of the process itself."""
    cpu: list[tuple[float, float]]
    """(time since the epoch, CPU seconds of all its processes so far), every few seconds."""

    def cpu_seconds(self, begin: float, end: float) -> float:
        """CPU seconds spent between two times since the epoch."""
        times, spent = zip(*self.cpu, strict=True)
        return float(np.interp(end, times, spent) - np.interp(begin, times, spent))


def run(command: list[str], cwd: Path) -> Run:
    """Runs a command to its end.

    Raises:
        RuntimeError: it failed; holds the end of what it printed.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        printed: list[str] = []
        reader = threading.Thread(target=lambda: printed.extend(process.stdout or ()), daemon=True)
        reader.start()
        peak = driver = 0
        cpu: list[tuple[float, float]] = []
        while process.poll() is None:
            pids = tree(process.pid)
            cpu.append((time.time(), sum(map(cpu_seconds_of, pids))))
            sizes = [_bytes(pid, "smaps_rollup", "Pss:") for pid in pids]
            peak = max(peak, sum(sizes))
            driver = max(driver, _bytes(process.pid, "status", "VmHWM:"))
            time.sleep(SAMPLE_S)
        reader.join()
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {process.returncode}:\n{''.join(printed)[-3000:]}"
        )
    seconds = time.perf_counter() - began
    return Run(seconds=seconds, peak_bytes=peak, driver_peak_bytes=driver, cpu=cpu)


def tree(root: int) -> list[int]:
    """A process and all that it started, and they."""
    children = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # ended meanwhile
            children[parent].append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children[pid])
    return found


def cpu_seconds_of(pid: int) -> float:
    """CPU seconds of a process, its threads, and its children that have ended."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _bytes(pid: int, file: str, field: str) -> int:
    try:
        text = (PROC / str(pid) / file).read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(field)), 0)
