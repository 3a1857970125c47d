"""What training workers log, in the driver's log: Ray keeps it in files of its own, where nobody looks.

Each worker adds lines to ROOT/_run/workers/RANK.log; the driver reads them as they come. Files of
an object store do not grow: of a run there nothing is heard.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from painter_core.files.storage import filesystem, is_local, join

WORKER_LOGS = "_run/workers"  # in the run's directory
LEVELS = {"WARNING": logging.WARNING, "ERROR": logging.ERROR}


@contextmanager
def heard(root: str, rank: int) -> Iterator[None]:
    """Context of a worker's loop: what our code logs reaches the driver, of other ranks than 0 only warnings.

    Args:
        root: path or URL of the run, which driver and workers see.
        rank: of the worker.
    """
    if not is_local(root):
        yield
        return
    directory = Path(filesystem(join(root, WORKER_LOGS))[1])
    directory.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(directory / f"{rank}.log", encoding="utf-8", errors="backslashreplace")
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
        root: path or URL of the run.
    """

    def __init__(self, root: str) -> None:
        self._directory = Path(filesystem(join(root, WORKER_LOGS))[1]) if is_local(root) else None
        self._read: dict[Path, int] = {}  # bytes

    def new(self) -> Iterator[tuple[int, str]]:
        """Level and text of each line that is whole, `worker RANK: ...`."""
        for file in sorted(self._directory.glob("*.log")) if self._directory else ():
            with file.open("rb") as stream:
                stream.seek(self._read.get(file, 0))
                whole = stream.read().rpartition(b"\n")[0]
            for line in whole.splitlines():
                level, _, text = line.decode("utf-8", "replace").partition(" ")
                yield LEVELS.get(level, logging.INFO), f"worker {file.stem}: {text}"
            self._read[file] = self._read.get(file, 0) + len(whole) + bool(whole)
