"""Losses and speed since the last line of metrics, as part of what a resumed run takes up."""

import time
from typing import Any

import numpy as np


class Window:
    """What the next line of metrics sums up; a new one begins after each line.

    Its state belongs in the checkpoint: or the first line after a resume would average fewer steps than
    that of the unbroken run, where logging does not divide saving.
    """

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._text_losses: list[float] = []
        self._samples = 0
        self._seconds = 0.0
        self.restart()

    def restart(self) -> None:
        """Leaves out the time since the last step, which went into something else (validation, saving)."""
        self._mark = time.monotonic()

    def add(self, loss: float | None, samples: int, text_loss: float | None = None) -> None:
        """Adds a finished step over so many samples of all workers; it may lack one of the losses."""
        now = time.monotonic()
        self._losses += [] if loss is None else [loss]
        self._text_losses += [] if text_loss is None else [text_loss]
        self._samples += samples
        self._seconds += now - self._mark
        self._mark = now

    def loss(self) -> float:
        """The mean over the steps."""
        return float(np.mean(self._losses))

    def losses(self) -> dict[str, float]:
        """The means of those that there are, as metrics name them."""
        found = {"train_loss": self._losses, "train_text_loss": self._text_losses}
        return {name: float(np.mean(values)) for name, values in found.items() if values}

    def speed(self) -> float:
        """Samples a second, over all workers."""
        return self._samples / max(self._seconds, 1e-9)

    def state(self) -> dict[str, Any]:
        """For a checkpoint: plain numbers. Every loss, so that their mean is the same to the last bit."""
        more = {"text_losses": list(self._text_losses)} if self._text_losses else {}
        return {"losses": list(self._losses), "samples": self._samples, "seconds": self._seconds, **more}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self._losses = list(state["losses"])
        self._text_losses = list(state.get("text_losses", []))
        self._samples, self._seconds = state["samples"], state["seconds"]
        self.restart()
