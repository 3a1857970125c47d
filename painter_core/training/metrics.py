"""What a training run measured: metrics.jsonl for programs, TensorBoard for people."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import image, scalar

from painter_core.files.storage import filesystem, write_bytes

FILE, TENSORBOARD = "metrics.jsonl", "tensorboard"


class MetricsLog:
    """Appends scalars to DIRECTORY/metrics.jsonl and to TensorBoard event files beside it.

    A resumed run drops the lines after the step it resumes from, so that every step appears once in the file.
    What belongs to the step of a checkpoint is logged before the checkpoint is saved: a kill in between drops
    it with the step, and does not lose it.

    Args:
        written: called after each line.
    """

    def __init__(
        self, directory: Path, *, resume_step: int = 0, written: Callable[[], None] | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._written = written
        self._path = directory / FILE
        kept = []
        if self._path.exists():
            # a kill may have cut the last line
            lines = [line for line in self._path.read_text().splitlines() if line.endswith("}")]
            kept = [line + "\n" for line in lines if json.loads(line)["step"] <= resume_step]
        # whole or not at all: nothing could bring back the lines that a kill cut off here
        write_bytes(*filesystem(str(self._path)), "".join(kept).encode())
        self._events = _EventFile(directory / TENSORBOARD, purge_step=resume_step + 1)

    def log(self, step: int, **values: float) -> None:
        """One line; `train_loss` becomes the TensorBoard tag train/loss, other names stay."""
        line = {"step": step, "time_s": round(time.time(), 3), **values}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in values.items():
            tag = name.replace("_", "/", 1) if name.startswith(("train_", "valid_")) else name
            self._events.add(scalar(tag, value), step)
        self._events.flush()
        if self._written is not None:
            self._written()

    def image(self, step: int, tag: str, picture: Any) -> None:
        """A picture uint8 (H, W, 3) in TensorBoard."""
        self._events.add(image(tag, picture, dataformats="HWC"), step)
        self._events.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._events.close()


class _EventFile:
    """A file of TensorBoard's, written by this thread.

    tensorboardX's SummaryWriter writes in a thread of its own, which a full disk ends; from then on every
    call waits for it, for ever.
    """

    def __init__(self, directory: Path, *, purge_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # a suffix, since the name has seconds only: a run resumed at once would write over the file
        self._file = EventsWriter(str(directory / "events"), f".{uuid.uuid4().hex[:8]}")
        session = SessionLog(status=SessionLog.START)  # steps from here on that stand in other files are void
        self._file.write_event(Event(step=purge_step, session_log=session, wall_time=time.time()))

    def add(self, summary: Any, step: int) -> None:
        self._file.write_event(Event(summary=summary, step=step, wall_time=time.time()))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
