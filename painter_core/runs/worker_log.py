"""What training workers log, in the driver's log: Ray keeps it in files of its own, where nobody looks.

Each worker writes its lines to a file of its own in ROOT/_run/workers, whole each time, since a store appends
nothing; there are few. The driver reads what is new.
"""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from painter_core.files.storage import filesystem, join, write_bytes

LEVELS = {"WARNING": logging.WARNING, "ERROR": logging.ERROR}


def log_directory(root: str) -> str:
    """Where the workers of a run log to, as a path or URL."""
    return join(root, "_run", "workers")


class _File(logging.Handler):
    """Writes all lines so far, after each one.

    Args:
        url: of the file.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._place, self._lines = filesystem(url), b""

    def emit(self, record: logging.LogRecord) -> None:
        self._lines += (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        try:
            write_bytes(*self._place, self._lines)
        except OSError:
            self.handleError(record)  # to the worker's own standard error; the next line brings this one too


@contextmanager
def heard(root: str, rank: int) -> Iterator[None]:
    """Context of a worker's loop: what our code logs reaches the driver, of other ranks than 0 only warnings.

    Args:
        root: of the run, which driver and workers see.
        rank: of the worker.
    """
    # a name of its own, since a worker of this rank may have written before
    handler = _File(join(log_directory(root), f"{rank}-{uuid.uuid4().hex}.log"))
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    handler.setLevel(logging.WARNING if rank else logging.INFO)
    ours = logging.getLogger("painter_core")
    before = ours.level
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before)
        handler.close()


class WorkerLines:
    """The driver's side: the lines that came since the last look.

    Args:
        root: of the run.
    """

    def __init__(self, root: str) -> None:
        self._fs, self._directory = filesystem(log_directory(root))
        self._read: dict[str, int] = {}  # bytes

    def new(self) -> Iterator[tuple[int, str]]:
        """Level and text of each line, `worker RANK: ...`."""
        self._fs.invalidate_cache()
        for file in sorted(self._fs.glob(join(self._directory, "*.log"))):
            data = self._fs.cat_file(file)
            seen, self._read[file] = self._read.get(file, 0), len(data)
            rank = file.rpartition("/")[2].partition("-")[0]
            for line in data[seen:].splitlines():
                level, _, text = line.decode("utf-8", "replace").partition(" ")
                yield LEVELS.get(level, logging.INFO), f"worker {rank}: {text}"
