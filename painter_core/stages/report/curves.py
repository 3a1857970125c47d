"""Measures of a training over its steps, as lines that a template draws (SVG)."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from painter_core.text.escape import visible

WIDTH, HEIGHT = 560, 200  # of the drawing, in units of the SVG; axes' texts stand outside of it
MOST_POINTS = 280  # of a line; more are averaged
X_TICKS, Y_TICKS = 5, 4
NOT_DRAWN = ("step", "time_s", "epoch", "position", "num_workers")
TITLES = {
    "lr": "learning rate",
    "grad_norm": "norm of the gradient",
    "samples_per_s": "samples a second",
    "tokens_per_s": "tokens a second",
}
PARTS = ("train", "valid")  # of data: lines of one plot


@dataclass(frozen=True, kw_only=True)
class Line:
    """A measure as the template draws it."""

    name: str
    colour: int
    """Number in the page's palette."""
    path: str
    """SVG path."""
    summary: str
    """For a reader who does not see the drawing."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One or two measures over the steps, as the template draws them."""

    measures: tuple[str, ...]
    """Their names in metrics.jsonl."""
    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    """Place and text."""
    y_ticks: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT


def all_curves(metrics: Sequence[dict[str, float]]) -> list[Curves]:
    """A plot a measure; train_loss and valid_loss share one.

    Args:
        metrics: lines of metrics.jsonl.
    """
    measured: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in metrics:
        for name, value in line.items():
            if name not in NOT_DRAWN and isinstance(value, int | float) and math.isfinite(value):
                measured[name].append((line["step"], value))
    plots: dict[str, list[str]] = defaultdict(list)
    for name in measured:
        part, _, rest = name.partition("_")
        plots[rest if part in PARTS else name].append(name)
    found = [_curves(title, {name: measured[name] for name in names}) for title, names in plots.items()]
    return [curves for curves in found if curves is not None]


def _curves(title: str, measured: dict[str, list[tuple[float, float]]]) -> Curves | None:
    """None for a measure that never changes."""
    points = {name: np.array(values, np.float64) for name, values in measured.items()}
    steps, values = (np.concatenate([p[:, i] for p in points.values()]) for i in (0, 1))
    if values.min() == values.max() and len(points) == 1:
        return None
    low, high = float(values.min()), float(values.max())
    margin = (high - low or 1.0) * 0.04
    x_range, y_range = (0.0, float(steps.max())), (low - margin, high + margin)
    return Curves(
        measures=tuple(points),
        title=visible(TITLES.get(title, title.replace("_", " "))),
        lines=tuple(
            Line(
                name=visible(TITLES.get(name, name).replace("_", " ")),
                colour=i,
                path=_path(p, x_range, y_range),
                summary=_summary(p[:, 1]),
            )
            for i, (name, p) in enumerate(points.items())
        ),
        x_ticks=tuple((x * WIDTH, text) for x, text in _ticks(*x_range, X_TICKS)),
        y_ticks=tuple(((1 - y) * HEIGHT, text) for y, text in _ticks(*y_range, Y_TICKS)),
    )


def _summary(values: np.ndarray) -> str:
    ends = f"first {values[0]:.4g}, last {values[-1]:.4g}"
    return f"{ends}, lowest {values.min():.4g}, highest {values.max():.4g}"


def _path(points: np.ndarray, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    """A line through the points (N, 2); a single one is a dash."""
    groups = np.array_split(points, min(len(points), MOST_POINTS))
    means = np.array([group.mean(axis=0) for group in groups])
    x = (means[:, 0] - x_range[0]) / (x_range[1] - x_range[0] or 1) * WIDTH
    y = (1 - (means[:, 1] - y_range[0]) / (y_range[1] - y_range[0])) * HEIGHT
    if len(x) == 1:
        return f"M{max(x[0] - 8, 0):.1f} {y[0]:.1f}h8"
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _ticks(low: float, high: float, wanted: int) -> list[tuple[float, str]]:
    """Round numbers in a range: their places in it, 0 to 1, and their texts."""
    span = high - low or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= span / wanted * (1 - 1e-9))
    numbers = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step
    return [((n - low) / span, f"{n:,.6g}") for n in numbers.tolist()]
