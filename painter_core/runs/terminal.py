"""What a job shows on its standard error: plain lines; in a terminal coloured ones, above a live display.

A file, a pipe, `ray job submit` and a terminal that cannot draw get lines `HH:MM:SS message` and no more;
rich is imported for a terminal only. Standard output is a job's result and is left alone.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

LogLevel = Literal["info", "debug"]
REFRESHES_A_S = 4
NEXT = "next: "  # the beginning of a job's last line
_COLOURS = {logging.WARNING: "bold yellow", logging.ERROR: "bold red"}


class _Terminal:
    """The terminal of this process, if it has one."""

    console: "Console | None" = None
    is_live = False


def set_up() -> None:
    """Sends the log to standard error."""
    if can_draw():
        from rich.console import Console

        # a descriptor of its own: the process' own one is led elsewhere while Ray starts
        file = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace")
        _Terminal.console = Console(file=file, highlight=False, markup=False, emoji=False)
        lines = _Lines(_Terminal.console)
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[lines])
    else:
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
        )


def set_level(level: LogLevel) -> None:
    """With debug, our lines at DEBUG are shown, and what Ray says (painter_core.runs.ray_messages)."""
    if level == "debug":
        logging.getLogger("painter_core").setLevel(logging.DEBUG)


def can_draw() -> bool:
    """Whether standard error is a terminal that can move its cursor and show what we draw."""
    encoding = (sys.stderr.encoding or "").lower().replace("-", "")
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" and encoding == "utf8"


def is_live() -> bool:
    """Whether a live display shows how far the job is, so that no line need say it."""
    return _Terminal.is_live


@contextmanager
def shown(view: Callable[[], Any]) -> Iterator[None]:
    """Context: a live display at the bottom of the terminal; without a terminal nothing.

    Args:
        view: makes what rich is to show, some times a second, in another thread.
    """
    console = _Terminal.console
    if console is None or _Terminal.is_live:
        yield
        return
    from rich.live import Live

    live = Live(
        get_renderable=view,
        console=console,
        refresh_per_second=REFRESHES_A_S,
        transient=True,
        redirect_stdout=False,  # it may be a file
    )
    with live:
        _Terminal.is_live = True
        try:
            yield
        finally:
            _Terminal.is_live = False


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Context: the terminal says what is waited for, and for how long."""
    if _Terminal.console is None:
        yield
        return
    from rich.spinner import Spinner
    from rich.text import Text

    spinner, began = Spinner("dots", style="cyan"), time.monotonic()

    def view() -> Spinner:
        spinner.update(text=Text(f"{what} … {time.monotonic() - began:.0f} s", "dim"))
        return spinner

    with shown(view):
        yield


class _Lines(logging.Handler):
    """Lines of the log above the live display; the terminal breaks long ones, so that paths can be copied.

    Args:
        console: of the terminal.
    """

    def __init__(self, console: "Console") -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        message = self.format(record)
        line = Text().append(time.strftime("%H:%M:%S ", time.localtime(record.created)), "dim")
        colour = _COLOURS.get(min(record.levelno, logging.ERROR), "")
        if colour:
            line.append(f"{record.levelname}: ", colour)
        line.append(message, colour or ("bold green" if message.startswith(NEXT) else "default"))
        self._console.print(line, soft_wrap=True)
