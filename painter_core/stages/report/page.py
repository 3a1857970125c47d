"""The page of a run: what it is, and sections of facts, plots, counts, pictures.

A Page is filled into run.html.j2, in the look of the report on a score (painter_core.evaluation.report). As
there nothing is trusted: the template escapes, the page's own policy forbids scripts and every request, and
pictures pass through images/embed.py.
"""

from dataclasses import dataclass

from painter_core.images.embed import Embedded
from painter_core.stages.report.curves import Curves
from painter_core.text.templates import templates_of

NOT_ENDED = "It is at work, or was ended by force; submit the same command again to go on."


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A name and a value, which may lead to a file."""

    name: str
    value: str
    href: str = ""


@dataclass(frozen=True, kw_only=True)
class Count:
    """How often something was found, with what it means."""

    name: str
    count: int
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with what stands below it."""

    picture: Embedded
    caption: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what there is of the rest."""

    title: str
    facts: tuple[Fact, ...] = ()
    curves: tuple[Curves, ...] = ()
    counts: tuple[Count, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    """Of a table, its head first."""
    lines: tuple[str, ...] = ()
    """Examples, each a line of text."""
    pictures: tuple[Picture, ...] = ()
    are_sheets: bool = False
    """Whether the pictures are large ones."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """All of it, harmless as text."""

    title: str
    subtitle: str
    state: str
    """How far the run is, in a few words."""
    is_good: bool
    """Whether it is complete."""
    remark: str
    """What a user must know of its end, or nothing."""
    tiles: tuple[Fact, ...]
    """The few numbers that are looked for first."""
    sections: tuple[Section, ...]


def render(page: Page) -> str:
    """The page as text; a function of its argument alone."""
    return (
        templates_of("painter_core.stages.report", "painter_core.evaluation.report")
        .get_template("run.html.j2")
        .render(page=page)
    )
