"""Where a training's workers write: a directory that all of them see, or a URL.

Of a URL, rank 0 writes every file to a local directory first, which needs room for one checkpoint, and then
to the store: checkpoints with their marker last, best/ and last/ as copies within the store, metrics.jsonl
and TensorBoard's files whole. The store holds everything that a resume needs; the local directory is removed
at the end, and one that a killed worker left is removed by the next one.
"""

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from painter_core.files.cache import workplace
from painter_core.files.storage import filesystem, is_local, join, redact, write_json
from painter_core.training.checkpoints import (
    latest_checkpoint,
    publish,
    repair_published,
    save_checkpoint,
    whole_checkpoints,
)
from painter_core.training.metrics import FILE, TENSORBOARD, MetricsLog
from painter_core.training.remote_checkpoints import (
    newest_checkpoint,
    publish_copy,
    upload_checkpoint,
    usable_checkpoints,
)
from painter_core.training.worker import Worker

UPLOAD_S = 10.0  # between two uploads of metrics.jsonl, which is uploaded whole


@contextmanager
def open_output(root: str) -> Iterator["Output"]:
    """The output of a run, as long as a worker runs.

    Args:
        root: path or URL.
    """
    if is_local(root):
        yield Output(root, Path(filesystem(root)[1]))
        return
    with workplace(f"training-{uuid.uuid4().hex}") as directory:
        yield Output(root, directory)


class Output:
    """A run's output, as a worker has it.

    Args:
        root: path or URL.
        directory: the path itself, or the local directory of a URL.
    """

    def __init__(self, root: str, directory: Path) -> None:
        self.root, self._directory = root, directory
        self._is_url = not is_local(root)
        self._newest = ""
        self._metrics: MetricsLog | None = None
        self._uploaded = 0.0

    def newest(self) -> Path | None:
        """The newest whole checkpoint as a local path; None if no checkpoint was ever finished."""
        if not self._is_url:
            path = latest_checkpoint(self._directory)
            self._newest = path.name if path else ""
            return path
        self._newest, copied = newest_checkpoint(self.root) or ("", None)
        return copied

    def loaded(self, checkpoint: Path, worker: Worker) -> None:
        """This worker has read the checkpoint that `newest` gave it; every worker calls it."""
        if self._is_url:
            worker.total(torch.zeros(1, device=worker.device))  # until all have: a node has one copy
            shutil.rmtree(checkpoint, ignore_errors=True)

    def save(self, step: int, write: Callable[[Path], None], *, keep: int, is_best: bool) -> None:
        """Saves a checkpoint (painter_core.training.checkpoints), and publishes it as best/ if it is.

        Args:
            write: fills an empty directory.
            keep: how many stay.
        """
        self._upload_metrics(everything=True)  # a checkpoint that stands has the lines before it
        path = save_checkpoint(self._directory, step, write, keep=keep)
        self._newest = path.name
        if self._is_url:
            upload_checkpoint(self.root, path, keep=keep)
            shutil.rmtree(path)
        if is_best:
            self._publish("best", self._newest)

    def _publish(self, name: str, checkpoint: str) -> None:
        """Makes a checkpoint best/ or last/."""
        if self._is_url:
            publish_copy(self.root, name, checkpoint)
        else:
            publish(self._directory / name, self._directory / "checkpoints" / checkpoint)

    def repair(self, *, is_best: bool) -> None:
        """At the start of rank 0: completes what a kill may have left undone after the newest checkpoint.

        Args:
            is_best: whether that checkpoint is the best one.
        """
        if not self._is_url:
            for name in ("best", "last"):
                repair_published(self._directory / name)
        if is_best:
            self._publish("best", self._newest)
        elif self._newest and not self._has_best():
            self._bring_back_best()

    def _has_best(self) -> bool:
        fs, path = filesystem(join(self.root, "best", "config.json"))
        return fs.exists(path)

    def _bring_back_best(self) -> None:
        """Publishes best/, which somebody removed, once more.

        Raises:
            ValueError: the checkpoint that it was made of is not kept.
        """
        fs, parent = filesystem(join(self.root, "checkpoints"))
        for name in usable_checkpoints(self.root) if self._is_url else whole_checkpoints(self._directory):
            with fs.open(join(parent, name, "training", "state.pt"), "rb") as file:
                state = torch.load(file, map_location="cpu", weights_only=True)
            if state.get("is_best", False):
                self._publish("best", name)
                return
        raise ValueError(
            f"{redact(self.root)}/best: it is gone, and the checkpoint it was made of is no longer kept; "
            f"put it back, or copy {redact(self.root)}/last there"
        )

    def open_metrics(self, resume_step: int) -> MetricsLog:
        """The metrics of the run, without the lines after a step."""
        if self._is_url:
            fs, path = filesystem(join(self.root, FILE))
            if fs.exists(path):
                (self._directory / FILE).write_bytes(fs.cat_file(path))
        written = self._upload_metrics if self._is_url else None
        self._metrics = MetricsLog(self._directory, resume_step=resume_step, written=written)
        return self._metrics

    def _upload_metrics(self, *, everything: bool = False) -> None:
        """Brings metrics.jsonl to the store, at most every ten seconds, and with `everything` TensorBoard's
        files too."""
        if not self._is_url or self._metrics is None:
            return
        if not everything and time.monotonic() - self._uploaded < UPLOAD_S:
            return
        files = [self._directory / FILE]
        if everything:
            files += sorted((self._directory / TENSORBOARD).iterdir())
        for file in files:
            fs, path = filesystem(join(self.root, str(file.relative_to(self._directory))))
            fs.put_file(str(file), path)
        self._uploaded = time.monotonic()

    def end(self, values: dict[str, Any]) -> None:
        """Rank 0 at the end: last/ is the newest checkpoint, and the driver hears `values`."""
        self._upload_metrics(everything=True)
        self._publish("last", self._newest)
        write_outcome(self.root, values)


def write_outcome(root: str, values: dict[str, Any]) -> None:
    """outcome.json, which the driver reads when the workers have ended."""
    write_json(*filesystem(join(root, "_run", "outcome.json")), values)
