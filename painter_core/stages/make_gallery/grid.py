"""A gallery of a table that generate.py --sweep painted: a row a caption, a column a setting.

What is shown is as little trusted as on any page (page.py); the score of a setting is a mean over all
captions that were scored, also those that are not shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from painter_core.stages.make_gallery.page import (
    CAPTION_CHARS,
    MAX_PICTURES,
    Figure,
    extent,
    make_figure,
    render,
)
from painter_core.stages.sweeps import changing, pictures_a_setting
from painter_core.text.escape import cut


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A column of the grid."""

    facts: tuple[tuple[str, str], ...]
    """What changes between the columns: name and value."""
    score: str | None
    """What was scored of its pictures."""


@dataclass(frozen=True, kw_only=True)
class GridEntry:
    """A caption's pictures, setting by setting."""

    idx: str
    caption: str
    images: tuple[bytes, ...]
    """Encoded pictures, equally many a setting."""
    labels: tuple[str, ...]
    """One under each picture; may be empty."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    caption: str
    cells: tuple[tuple[Figure, ...], ...]


def settings_of(identity: Mapping[str, Any], scores: Mapping[str, Sequence[str]]) -> list[Setting]:
    """The columns of the grid, with the mean score of each.

    Args:
        identity: of the table's manifest.
        scores: by idx, `right/all` of each picture, in the order of the table.
    """
    settings, kept = changing(identity["sweep"]), pictures_a_setting(identity)
    whole = [found for found in scores.values() if len(found) == len(settings) * kept]
    made = []
    for number, setting in enumerate(settings):
        here = [score for found in whole for score in found[number * kept : (number + 1) * kept]]
        right, asked = (sum(int(score.split("/")[i]) for score in here) for i in (0, 1))
        facts = tuple((name, f"{value:g}") for name, value in setting.items())
        made.append(Setting(facts=facts, score=f"{right / asked:.1%} of {len(here):,}" if here else None))
    return made


def render_grid(
    entries: Iterable[GridEntry],
    settings: Sequence[Setting],
    *,
    title: str,
    subtitle: str,
    total: int,
    seed: int,
) -> str:
    """The page as text.

    Args:
        entries: the captions to show.
        settings: the columns.
        title, subtitle: heading, and a line below it.
        total: captions of the table.
        seed: of the sample of captions.

    Raises:
        ValueError: a picture that cannot be shown, or more than MAX_PICTURES.
    """
    rows, pictures = list[_Row](), 0
    for entry in entries:
        figures = [
            make_figure(image, label, entry.idx)
            for image, label in zip(entry.images, entry.labels, strict=True)
        ]
        each = len(figures) // len(settings)
        cells = tuple(tuple(figures[i * each : (i + 1) * each]) for i in range(len(settings)))
        rows.append(_Row(caption=cut(entry.caption, CAPTION_CHARS), cells=cells))
        pictures += len(figures)
        if pictures > MAX_PICTURES:
            raise ValueError(
                f"more than {MAX_PICTURES:,} pictures for one page: a caption has {len(figures):,}; sweep "
                "over fewer values"
            )
    shown = extent(len(rows), total, pictures, seed)
    return render("grid.html.j2", title=title, subtitle=subtitle, extent=shown, settings=settings, rows=rows)
