"""What the driver shows while a training runs: the lines of metrics.jsonl and what workers log.

In a terminal a display takes the place of the lines, but of those of a validation.
"""

import json
import logging
import threading
import time

from painter_core.files.storage import filesystem, is_local, join
from painter_core.runs import terminal
from painter_core.runs.cluster import count_told
from painter_core.runs.training_view import LOSSES, TrainingView
from painter_core.runs.worker_log import WorkerLines
from painter_core.training.metrics import FILE as METRICS

log = logging.getLogger(__name__)

SHOWN = ("train_loss", "valid_loss", "train_rec", "valid_psnr", "valid_usage", "lr", "samples_per_s")
REMOTE_S = 5.0  # between two looks at the metrics of a run in an object store


class TrainingProgress:
    """Prints the lines that rank 0 adds to metrics.jsonl and what workers log, and says when workers left or
    came.

    Args:
        root: of the run, a path or URL.
        num_steps: of the whole run.
        save_steps: steps between checkpoints.
        resize_interval_s: between two looks for more workers; None if their number is fixed.
        workers: how many there are to be, for people.
    """

    def __init__(
        self, root: str, num_steps: int, *, save_steps: int, resize_interval_s: float | None, workers: str
    ) -> None:
        self._fs, self._path = filesystem(join(root, METRICS))
        self._num_steps, self._save_steps, self._interval_s = num_steps, save_steps, resize_interval_s
        self._worker_lines = WorkerLines(root)
        self._workers, self._num_workers, self._warned = workers, 0, False
        self._began = time.monotonic()
        self._every_s = 1.0 if is_local(root) else REMOTE_S
        lines = self._lines()
        self._seen = len(lines)  # what an interrupted run left is not news
        self._first: tuple[int, float] | None = None
        self._step, self._rate = 0, 0.0
        self._values: dict[str, float] = {}
        self._losses: list[float] = []
        self._take_in(lines)

    def run(self, ended: threading.Event) -> None:
        """Looks again and again until the end."""
        with terminal.shown(self.view):
            while not ended.wait(self._every_s):
                try:
                    self.show()
                except OSError as error:
                    log.info("no progress to show for now: %s", error)
        self.show()

    def view(self) -> TrainingView:
        """What a terminal shows now."""
        return TrainingView(
            step=self._step,
            num_steps=self._num_steps,
            losses=list(self._losses),
            values=dict(self._values),
            steps_per_s=self._rate,
            workers=count_told(now, now, "worker") if (now := self._num_workers) else self._workers,
            waited_s=time.monotonic() - self._began,
        )

    def _take_in(self, lines: list[str]) -> None:
        """For the display, what stands there already; a kill may have cut the last line."""
        self._losses.clear()
        for line in lines:
            if line.endswith("}"):
                self._remember(json.loads(line))

    def _remember(self, values: dict[str, float]) -> None:
        self._step = int(values["step"])
        self._values |= values
        self._losses += [values[name] for name in LOSSES if name in values]

    def _lines(self) -> list[str]:
        try:
            return self._fs.cat_file(self._path).decode().splitlines()
        except FileNotFoundError:
            return []

    def show(self) -> None:
        """Logs what is new."""
        for level, line in self._worker_lines.new():
            log.log(level, "%s", line)
        lines = self._lines()
        if len(lines) < self._seen:  # a resumed run cuts the file
            self._seen = len(lines)
            self._take_in(lines)
        for line in lines[self._seen :]:
            values = json.loads(line)
            first, began = self._first = self._first or (values["step"], time.monotonic())
            rate = self._rate = (values["step"] - first) / (time.monotonic() - began + 1e-9)
            self._remember(values)
            eta = f", {(self._num_steps - values['step']) / rate:.0f} s left" if rate else ""
            shown = ", ".join(f"{k} {v:.4g}" for k, v in values.items() if k in SHOWN)
            if not terminal.is_live() or any(name.startswith("valid_") for name in values):
                log.info("step %d of %d, %s%s", values["step"], self._num_steps, shown, eta)
            self._tell(values.get("num_workers", self._num_workers), rate)
        self._seen = len(lines)

    def _tell(self, num_workers: int, steps_per_s: float) -> None:
        if self._num_workers not in (0, num_workers):
            log.info("%d workers now, %d before", num_workers, self._num_workers)
        self._num_workers = num_workers
        interval_s = self._interval_s
        if interval_s is not None and 0 < steps_per_s * interval_s < self._save_steps and not self._warned:
            self._warned = True
            log.warning(
                "a checkpoint every %d steps is one in %.0f s, --resize-interval is %.0f s: what was done "
                "since the last one is done again when workers come; --save-checkpoint-steps %d would do",
                self._save_steps,
                self._save_steps / steps_per_s,
                interval_s,
                max(1, round(steps_per_s * interval_s)),
            )
