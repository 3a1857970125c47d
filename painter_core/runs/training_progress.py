"""What the driver shows while a training runs: the lines of metrics.jsonl and what workers log."""

import json
import logging
import threading
import time

from painter_core.files.storage import filesystem, is_local, join
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
    """

    def __init__(
        self, root: str, num_steps: int, *, save_steps: int, resize_interval_s: float | None
    ) -> None:
        self._fs, self._path = filesystem(join(root, METRICS))
        self._num_steps, self._save_steps, self._interval_s = num_steps, save_steps, resize_interval_s
        self._worker_lines = WorkerLines(root)
        self._num_workers, self._warned = 0, False
        self._every_s = 1.0 if is_local(root) else REMOTE_S
        self._seen = len(self._lines())  # what an interrupted run left is not news
        self._first: tuple[int, float] | None = None

    def run(self, ended: threading.Event) -> None:
        """Looks again and again until the end."""
        while not ended.wait(self._every_s):
            try:
                self.show()
            except OSError as error:
                log.info("no progress to show for now: %s", error)
        self.show()

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
        self._seen = min(self._seen, len(lines))  # a resumed run cuts the file
        for line in lines[self._seen :]:
            values = json.loads(line)
            first, began = self._first = self._first or (values["step"], time.monotonic())
            rate = (values["step"] - first) / (time.monotonic() - began + 1e-9)
            eta = f", {(self._num_steps - values['step']) / rate:.0f} s left" if rate else ""
            shown = ", ".join(f"{k} {v:.4g}" for k, v in values.items() if k in SHOWN)
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
