"""Calls whose standard error is a terminal, or a pipe: in a child of this process."""

import fcntl
import logging
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path

ESCAPE = "\x1b"


def in_terminal(
    call: Callable[[], object],
    *,
    columns: int = 80,
    term: str = "xterm-256color",
    keys: tuple[str, bytes] = ("", b""),
) -> tuple[int, str]:
    """Exit code of a call, and what its terminal got.

    Args:
        columns: breadth of the terminal.
        term: its kind.
        keys: a text, and what is typed when the terminal has got it.
    """
    child, master = pty.fork()
    if child == 0:
        _as_a_job(call, term)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    got = b""
    while chunk := _read(master):
        got += chunk
        if keys[1] and keys[0].encode() in got:
            os.write(master, keys[1])
            keys = ("", b"")
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), got.decode()


def in_pipe(call: Callable[[], object], path: Path) -> tuple[int, str]:
    """The same with a file as standard error."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), 2)
        _as_a_job(call, "xterm-256color")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, path.read_text()


def _as_a_job(call: Callable[[], object], term: str) -> None:
    """In the child: pytest's handlers and streams are replaced by a job's, and the process ends as a job."""
    logging.getLogger().handlers.clear()
    os.environ |= {"TERM": term, "LC_ALL": "C.UTF-8"}
    os.environ.pop("COLUMNS", None)
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  to the end of the process
    code = 0
    try:
        call()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # EIO: the child has ended
        return b""
