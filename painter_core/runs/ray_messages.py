"""What Ray says of its own affairs between our lines: nothing, but with --log-level debug all of it.

Ray's errors reach us as exceptions, whatever is hidden here.
"""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

STDERR = 2
ENDS_S = 5.0  # for the filter's last lines
# what Ray's C++ part says first of all, of the variable that keeps it quiet
OF_THE_VARIABLE = "Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL"


def are_shown() -> bool:
    """Whether --log-level debug was given."""
    return logging.getLogger("painter_core").isEnabledFor(logging.DEBUG)


def options() -> dict[str, Any]:
    """Those of ray.init()."""
    if are_shown():
        return {"log_to_driver": True, "logging_level": logging.INFO}
    return {"log_to_driver": False, "logging_level": logging.WARNING}


def set_variables() -> None:
    """Before Ray is imported: it reads its levels then."""
    if are_shown():
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    logging.getLogger("ray.train").setLevel(logging.ERROR)


@contextmanager
def without_first_line() -> Iterator[None]:
    """Context of ray.init(), in which Ray's C++ part writes OF_THE_VARIABLE past Python: it is left out.

    A process of its own does it, so that what Ray says when it ends this one is not lost.
    """
    sed = shutil.which("sed")
    if are_shown() or sed is None:
        yield
        return
    stderr = os.dup(STDERR)
    command = [sed, "-u", f"/{OF_THE_VARIABLE}/d"]
    # a session of its own, since Ctrl-C would end it before this process
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stderr, start_new_session=True)
    assert process.stdin is not None
    os.dup2(process.stdin.fileno(), STDERR)
    process.stdin.close()
    try:
        yield
    finally:
        os.dup2(stderr, STDERR)
        os.close(stderr)
        with suppress(subprocess.TimeoutExpired):  # a process of Ray's may write there too, and go on
            process.wait(ENDS_S)
