"""Memory of a command and of all processes that it starts, while it runs."""

import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SAMPLE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a command went."""

    seconds: float
    peak_bytes: int
    """Largest sum over its processes of proportional set sizes: shared pages are counted once."""
    driver_peak_bytes: int
    """Largest resident size of the process itself."""


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
        while process.poll() is None:
            sizes = [_bytes(pid, "smaps_rollup", "Pss:") for pid in _tree(process.pid)]
            peak = max(peak, sum(sizes))
            driver = max(driver, _bytes(process.pid, "status", "VmHWM:"))
            time.sleep(SAMPLE_S)
        reader.join()
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {process.returncode}:\n{''.join(printed)[-3000:]}"
        )
    return Run(seconds=time.perf_counter() - began, peak_bytes=peak, driver_peak_bytes=driver)


def _tree(root: int) -> list[int]:
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


def _bytes(pid: int, file: str, field: str) -> int:
    try:
        text = (PROC / str(pid) / file).read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(field)), 0)
