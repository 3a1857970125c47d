"""Ending a job: its summary, its lock, its exit code (painter_core.runs.command_line lists them)."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import FrameType, TracebackType
from typing import Any, Literal, NoReturn, Self

from painter_core.errors import Refused, Stop
from painter_core.files.object_store import few_tries
from painter_core.files.storage import redact_text
from painter_core.files.store_errors import StoreError
from painter_core.runs.command_line import check_path, fail
from painter_core.runs.lock import RunLock
from painter_core.runs.next_step import after_failure
from painter_core.runs.terminal import NEXT

log = logging.getLogger(__name__)

_MAIN_THREAD = threading.main_thread().ident or 0
INTERRUPTED = "interrupted; submit the same command again to resume"


class Run:
    """Context of a job: checks its paths, turns the way it ends into a summary and an exit code, and gives
    back its lock.

    Args:
        paths: flag -> path or paths with commas between; None where the flag is not given.
    """

    def __init__(self, paths: Mapping[str, str | None]) -> None:
        self._paths = paths
        self._write: Callable[[int, str, float], None] | None = None
        self._lock: RunLock | None = None
        self._lost: Exception | None = None
        self._next = ""
        self._hasty = ExitStack()
        self._handlers: dict[int, Any] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._hasty.enter_context(few_tries())  # as long as a wrong address or key is the likelier reason
        try:
            for flag, path in self._paths.items():
                if path is not None:
                    check_path(flag, path)
        except ValueError as error:
            fail(2, str(error))
        return self

    def lock(self, url: str) -> None:
        """Makes sure that no other driver writes to an output, from here to the end.

        Raises:
            Refused: another one does.
        """
        lock = RunLock(url, self._stop)
        lock.acquire()
        self._hasty.close()
        self._lock = lock

    def _stop(self, error: Exception) -> None:
        # nothing is written from here on: the place is another run's, or may soon be
        self._lost, self._write = error, None
        # a real signal: it wakes the main thread, whatever that waits for
        signal.pthread_kill(_MAIN_THREAD, signal.SIGINT)

    def then(self, next_step: str) -> None:
        """What the last line of the log says if the job succeeds (painter_core.runs.next_step)."""
        self._next = next_step

    def began(self, write: Callable[[int, str, float], None]) -> None:
        """From here on the run has written something: its end goes to `write(code, message, seconds)`."""
        self._write = write
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        # at once: what follows, Ray's own end too, may take longer than the sender of the signal waits
        self._summarise(130, INTERRUPTED)
        raise KeyboardInterrupt

    def _summarise(self, code: int, message: str) -> None:
        """Writes how the run ended; what hinders that is said, and hides nothing."""
        if self._write is None:
            return
        try:
            with few_tries():
                self._write(code, message[:2000], self.seconds)
        except OSError as error:
            log.error("summary.json could not be written: %s; the run ended with code %d", error, code)

    def ended(self) -> None:
        """Ends a part of the run (codes before training); the process continues with the next one."""
        self._summarise(0, "")
        self._write, self._began = None, time.monotonic()
        self._unlock()

    def _unlock(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    @property
    def seconds(self) -> float:
        """Since the start, or since the last part ended."""
        return time.monotonic() - self._began

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        code, message = self._code(error)
        message = redact_text(message)
        try:
            self._summarise(code, message)
        finally:
            if "ray" in sys.modules:
                sys.modules["ray"].shutdown()
            self._unlock()  # last: until here our workers may write
            self._hasty.close()
        if code not in (0, 1) or self._lost or isinstance(error, Stop):
            fail(code, message)
        if code == 1:
            _say_after_traceback(after_failure(began=self._write is not None))
        if code == 0 and self._next:
            log.info("%s%s", NEXT, redact_text(self._next))
        return False  # code 1: the traceback is the message

    def _code(self, error: BaseException | None) -> tuple[int, str]:
        error = self._lost or error
        if error is None:
            return 0, ""
        if isinstance(error, Stop):
            return error.code, str(error)
        if isinstance(error, SystemExit):
            return int(error.code or 0), ""
        if isinstance(error, KeyboardInterrupt):
            return 130, INTERRUPTED
        if isinstance(error, Refused):
            return 4, str(error)
        if isinstance(error, ValueError | StoreError) and self._write is None and not self._lost:
            return 2, str(error)
        cause = getattr(error, "cause", None) or error  # of an error that Ray hands on from a worker
        return 1, f"{type(cause).__name__}: {cause}"


def _say_after_traceback(message: str) -> None:
    """Makes a line the last one of this process, which an exception is about to end."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        log.error("%s%s", NEXT, message)

    sys.excepthook = hook
