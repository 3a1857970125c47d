"""The report page: numbers of all tables side by side, distributions, the best and the worst pictures.

Score, distributions and examples -> page.html.j2. As in the gallery nothing is trusted: the template escapes,
the page's own policy forbids scripts and every request, and pictures pass through images/embed.py.
"""

from dataclasses import dataclass

from painter_core.evaluation.columns import Column, columns, facts, remarks_of
from painter_core.evaluation.report.plots import Plot
from painter_core.evaluation.score import Score
from painter_core.images.embed import Embedded, embed
from painter_core.text.escape import cut, visible
from painter_core.text.templates import templates_of

CAPTION_CHARS = 200
IDX_CHARS = 80
ARROWS = {"lower": "↓", "higher": "↑", "": ""}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture with its caption and what was measured of it."""

    idx: str
    caption: str
    images: tuple[bytes, ...]
    """Encoded: the picture, or original and reconstruction."""
    labels: tuple[str, ...] = ()
    """One under each picture, or none."""
    values: tuple[tuple[str, str], ...]
    """Names and values."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Examples of one kind, the best or the worst of a table."""

    title: str
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class _Figure:
    picture: Embedded | None
    """None for one that no browser shows."""
    label: str


@dataclass(frozen=True, kw_only=True)
class _Card:
    caption: str
    figures: tuple[_Figure, ...]
    facts: tuple[tuple[str, str], ...]


def render_report(title: str, score: Score, plots: list[Plot], examples: list[Examples]) -> str:
    """The page as text; a function of its arguments alone."""
    return (
        templates_of("painter_core.evaluation.report")
        .get_template("page.html.j2")
        .render(
            title=visible(title),
            tables=[(visible(table.name), visible(table.rows.path)) for table in score.tables],
            rows=[_row(column) for column in columns(score)],
            facts=[(visible(name), visible(value)) for name, value in facts(score)],
            remarks=[visible(line) for line in remarks_of(score)],
            plots=plots,
            groups=[(visible(group.title), [_card(e) for e in group.examples]) for group in examples],
        )
    )


def _row(column: Column) -> tuple[str, list[tuple[str, bool]]]:
    """A metric, and its values with whether they are the best."""
    title = f"{column.title} {ARROWS[column.better]}".strip()
    return title, [(cell, column.best == i) for i, cell in enumerate(column.cells)]


def _card(example: Example) -> _Card:
    labels = example.labels or ("",) * len(example.images)
    found = (("idx", cut(example.idx, IDX_CHARS)), *example.values)
    return _Card(
        caption=cut(example.caption, CAPTION_CHARS),
        figures=tuple(_figure(i, label) for i, label in zip(example.images, labels, strict=True)),
        facts=tuple((name, visible(value)) for name, value in found),
    )


def _figure(image: bytes, label: str) -> _Figure:
    try:
        return _Figure(picture=embed(image), label=visible(label))
    except ValueError as error:
        return _Figure(picture=None, label=visible(f"cannot be shown: {error}"))
