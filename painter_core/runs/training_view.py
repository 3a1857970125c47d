"""What a terminal shows of a training while it runs: a few lines that fit 80 columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from painter_core.runs.table_view import bar

BLOCKS = "▁▂▃▄▅▆▇█"
CURVE_CHARS = 30
LOSSES = ("train_loss", "train_rec")  # of a GPT, of a VQGAN
# names in metrics.jsonl -> for people
VALUES = {
    "valid_loss": "valid loss",
    "valid_psnr": "valid PSNR",
    "valid_usage": "codes used",
    "lr": "learning rate",
    "samples_per_s": "samples/s",
}


@dataclass(frozen=True, kw_only=True)
class TrainingView:
    """How far a training is; rich draws it."""

    step: int
    num_steps: int
    losses: Sequence[float]
    """Of training, oldest first."""
    values: Mapping[str, float]
    """The last one of each measure."""
    steps_per_s: float
    """0 as long as it is unknown."""
    workers: str
    """`2 workers`."""
    waited_s: float
    """Since the workers were asked for."""

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        yield bar("training", self.step, self.num_steps, left_s=self.left_s)
        if not self.losses:
            yield Text(
                f"  {self.num_steps:,} steps · {self.workers} · workers start: {self.waited_s:.0f} s", "dim"
            )
            return
        rate = f" · {self.steps_per_s:.3g} steps/s" if self.steps_per_s else ""
        yield Text(f"  step {self.step:,} of {self.num_steps:,}{rate} · {self.workers}", "default")
        line = Text(f"  loss {self.losses[-1]:.4g}  ", "default")
        yield line.append(curve(self.losses), "cyan")
        told = [f"{title} {self.values[name]:.4g}" for name, title in VALUES.items() if name in self.values]
        yield Text("  " + " · ".join(told), "dim")

    @property
    def left_s(self) -> float | None:
        """Estimate; None as long as there is nothing to go by."""
        return (self.num_steps - self.step) / self.steps_per_s if self.steps_per_s else None


def curve(values: Sequence[float], width: int = CURVE_CHARS) -> str:
    """Values as blocks between the lowest and the highest, each one the mean of as many."""
    groups = min(width, len(values))
    bounds = [round(i * len(values) / groups) for i in range(groups + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(bounds)]
    low, high = min(means), max(means)
    return "".join(BLOCKS[round((m - low) / (high - low or 1) * (len(BLOCKS) - 1))] for m in means)
