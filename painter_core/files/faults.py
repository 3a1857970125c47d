"""Failpoints for the fault tests: named places where a test may break something, or see what went by.

Off unless PAINTER_ENABLE_FAULTS=1. Then PAINTER_FAULT="NAME:ACTION:N" acts at the N-th passing of NAME,
counted over all processes and only once; with `each` for N, at the first passing of every unit.
PAINTER_FAULT_DIR is a directory for the counters. Actions: `kill` (SIGKILL of the process that passes), the
name of an errno such as `ENOSPC` (that OSError is raised), `nan` (the caller spoils its numbers).
PAINTER_TRACE=FILE gets a JSON line for every passing.
"""

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any


def failpoint(name: str, **details: Any) -> bool:
    """Marks a place in the code. Does nothing in normal runs.

    Returns:
        Whether the caller is to spoil its numbers (`nan`).

    Raises:
        OSError: the action is an errno.
        ValueError: PAINTER_FAULT is not of this form.
    """
    if os.environ.get("PAINTER_ENABLE_FAULTS") != "1":
        return False
    if trace := os.environ.get("PAINTER_TRACE"):
        with open(trace, "a") as file:  # one short write: lines of several processes do not mix
            file.write(json.dumps({"name": name, "pid": os.getpid(), **details}) + "\n")
    wanted, _, rest = os.environ.get("PAINTER_FAULT", "").partition(":")
    if wanted != name:
        return False
    action, _, number = rest.partition(":")
    known = action in ("kill", "nan") or hasattr(errno, action)
    if not (known and (number.isdigit() or number == "each")):
        raise ValueError(f"PAINTER_FAULT: got {os.environ['PAINTER_FAULT']!r}, expected NAME:ACTION:N")
    counter = Path(os.environ["PAINTER_FAULT_DIR"]) / name
    if number == "each":
        counter, number = counter.with_name(f"{name}-{details['unit']}"), "1"
    if _passings(counter) != int(number):
        return False
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action != "nan":
        code = getattr(errno, action)
        raise OSError(code, os.strerror(code), name)
    return True


def _passings(counter: Path) -> int:
    """Counts this passing by appending a byte, so that no process loses the count of another one."""
    with open(counter, "ab") as file:
        file.write(b".")
        file.flush()
        return file.tell()
