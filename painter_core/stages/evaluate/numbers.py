"""Numbers of single pictures: how each is shown, and its distribution over all tables."""

from collections.abc import Iterator
from dataclasses import dataclass

from painter_core.evaluation.report.plots import Plot, Series, distribution
from painter_core.stages.evaluate.reduce import Reduced


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number of single pictures."""

    name: str
    """In Reduced.numbers."""
    title: str
    axis: str
    form: str
    high_is_good: bool | None = None
    """None for one that pictures are not sorted by."""


SHUFFLED = "clip_score_shuffled"
NUMBERS = (
    Number(
        name="clip_score",
        title="CLIP",
        axis="cosine of picture and caption",
        form="{:.3f}",
        high_is_good=True,
    ),
    Number(name=SHUFFLED, title="shuffled", axis="", form="{:.3f}"),
    Number(name="clip_rank", title="rank", axis="other captions that are at least as near", form="{:.0f}"),
    Number(name="bits_per_code", title="bits a code", axis="bits", form="{:.3f}", high_is_good=False),
    Number(
        name="caption_nats",
        title="caption nats a token",
        axis="nats a token of the caption",
        form="{:.3f}",
        high_is_good=False,
    ),
    Number(name="attributes_right", title="right attributes", axis="of 5", form="{:.0f}", high_is_good=True),
    Number(name="psnr", title="PSNR", axis="dB", form="{:.2f}", high_is_good=True),
    Number(name="ssim", title="SSIM", axis="1 for equal pictures", form="{:.3f}"),
    Number(name="lpips", title="LPIPS", axis="0 for equal pictures", form="{:.3f}"),
)


def plots_of(tables: list[Reduced]) -> list[Plot]:
    """Distributions of all numbers, the tables over one axis; shuffled captions beside the own ones."""
    found = []
    for number in NUMBERS:
        series = [s for i, table in enumerate(tables) for s in _series(number.name, i, table)]
        plot = distribution(number.title, number.axis, series) if number.name != SHUFFLED else None
        if plot is not None:
            found.append(plot)
    return found


def _series(name: str, colour: int, table: Reduced) -> Iterator[Series]:
    names = [(name, "")] + ([(SHUFFLED, ", shuffled captions")] if name == "clip_score" else [])
    for key, more in names:
        if key in table.numbers:
            title, values = table.score.name + more, table.numbers[key]
            yield Series(name=title, values=values, colour=colour, is_dashed=bool(more))
