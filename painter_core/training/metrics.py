"""What a training run measured: metrics.jsonl for programs, TensorBoard for people."""

import json
import time
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from painter_core.files.storage import filesystem, write_bytes


class MetricsLog:
    """Appends scalars to DIRECTORY/metrics.jsonl and to TensorBoard event files beside it.

    A resumed run drops the lines after the step it resumes from, so that every step appears once in the file.
    What belongs to the step of a checkpoint is logged before the checkpoint is saved: a kill in between drops
    it with the step, and does not lose it.
    """

    def __init__(self, directory: Path, *, resume_step: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "metrics.jsonl"
        kept = []
        if self._path.exists():
            # a kill may have cut the last line
            lines = [line for line in self._path.read_text().splitlines() if line.endswith("}")]
            kept = [line + "\n" for line in lines if json.loads(line)["step"] <= resume_step]
        # whole or not at all: nothing could bring back the lines that a kill cut off here
        write_bytes(*filesystem(str(self._path)), "".join(kept).encode())
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=resume_step + 1)

    def log(self, step: int, **values: float) -> None:
        """One line; `train_loss` becomes the TensorBoard tag train/loss, other names stay."""
        line = {"step": step, "time_s": round(time.time(), 3), **values}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in values.items():
            tag = name.replace("_", "/", 1) if name.startswith(("train_", "valid_")) else name
            self._writer.add_scalar(tag, value, step)

    def image(self, step: int, tag: str, picture: Any) -> None:
        """A picture uint8 (H, W, 3) in TensorBoard."""
        self._writer.add_image(tag, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes the event files."""
        self._writer.close()
