"""Distributions of single pictures' values as outlines that a template draws (SVG).

Values (N,) of one or several tables over one axis; shares of pictures upwards, so that tables of different
sizes can be compared.
"""

import math
from dataclasses import dataclass

import numpy as np

from painter_core.text.escape import visible

WIDTH, HEIGHT = 560, 150  # of the drawing, in units of the SVG; the axis' text stands below it
BINS = 40
TICKS = 6


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values of the pictures of one table."""

    name: str
    values: np.ndarray
    colour: int = 0
    """Number in the page's palette."""
    is_dashed: bool = False
    """For what is only there to compare with."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A series as the template draws it."""

    name: str
    colour: int
    is_dashed: bool
    path: str
    """SVG path, from the axis up and back to it."""
    summary: str
    """Number, mean and range, for a reader who does not see the drawing."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A distribution as the template draws it."""

    title: str
    axis: str
    outlines: tuple[Outline, ...]
    ticks: tuple[tuple[float, str], ...]
    """Place and text along the axis."""
    width: int = WIDTH
    height: int = HEIGHT


def distribution(title: str, axis: str, series: list[Series]) -> Plot | None:
    """Histograms over one axis; None if there is no value at all."""
    found = [(one, one.values[np.isfinite(one.values)].astype(np.float64)) for one in series]
    found = [(one, values) for one, values in found if len(values)]
    if not found:
        return None
    low, high = min(v.min() for _, v in found), max(v.max() for _, v in found)
    if low == high:  # one value only: a bar in the middle
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / TICKS)
    edges = np.linspace(low, high, BINS + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for _, values in found]
    top = max(float(share.max()) for share in shares)
    ticks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    return Plot(
        title=title,
        axis=axis,
        outlines=tuple(
            Outline(
                name=visible(one.name),
                colour=one.colour,
                is_dashed=one.is_dashed,
                path=_path(share / top),
                summary=_summary(values),
            )
            for (one, values), share in zip(found, shares, strict=True)
        ),
        ticks=tuple((round((t - low) / (high - low) * WIDTH, 1), f"{t:.6g}") for t in ticks.tolist()),
    )


def _summary(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return f"n {len(values):,}, mean {values.mean():.4g}, 5 % {low:.4g}, median {middle:.4g}, 95 % {high:.4g}"


def _path(heights: np.ndarray) -> str:
    """Steps over all bins, heights in [0, 1]."""
    breadth = WIDTH / len(heights)
    parts = [f"M0 {HEIGHT}"]
    for i, height in enumerate(heights.tolist()):
        parts.append(f"V{HEIGHT * (1 - height):.1f}H{(i + 1) * breadth:.1f}")
    return "".join([*parts, f"V{HEIGHT}Z"])


def _round_step(wanted: float) -> float:
    """1, 2 or 5 times a power of ten, the next one above."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * (1 - 1e-9))
