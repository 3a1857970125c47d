"""Failpoints for the fault tests: named places where a test may end the process, or see what went by.

Off unless PAINTER_ENABLE_FAULTS=1. Then PAINTER_FAULT="NAME:kill:N" kills the process at the N-th passing of
NAME, counted over all processes and only once, and PAINTER_TRACE=FILE gets a JSON line for every passing.
Both need PAINTER_FAULT_DIR, a directory for the counters.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any


def failpoint(name: str, **details: Any) -> None:
    """Marks a place in the code. Does nothing in normal runs."""
    if os.environ.get("PAINTER_ENABLE_FAULTS") != "1":
        return
    if trace := os.environ.get("PAINTER_TRACE"):
        with open(trace, "a") as file:  # one short write: lines of several processes do not mix
            file.write(json.dumps({"name": name, "pid": os.getpid(), **details}) + "\n")
    wanted, _, rest = os.environ.get("PAINTER_FAULT", "").partition(":")
    if wanted == name:
        action, _, number = rest.partition(":")
        if action != "kill" or not number.isdigit():
            raise ValueError(f"PAINTER_FAULT: got {os.environ['PAINTER_FAULT']!r}, expected NAME:kill:N")
        if _passings(Path(os.environ["PAINTER_FAULT_DIR"]) / name) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)


def _passings(counter: Path) -> int:
    """Counts this passing; a byte a passing, appended, so that processes do not lose each other's."""
    with open(counter, "ab") as file:
        file.write(b".")
        file.flush()
        return file.tell()
