"""A gallery: one self-contained HTML page of pictures with their captions.

GalleryEntry rows (encoded pictures) -> at most max_entries of them -> data: URIs -> page.html.j2.

Captions, ids and pictures come from tables and are not trusted: the template escapes, the page's own policy
forbids scripts and every request, invisible characters are written out, and a picture reaches the page only
after Pillow took it for one of the allowed formats.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from painter_core.files.storage import filesystem, write_bytes
from painter_core.images.embed import Embedded, embed
from painter_core.text.escape import shown, visible

CAPTION_CHARS = 400
IDX_CHARS = 80


@dataclass(frozen=True, kw_only=True)
class GalleryEntry:
    """One row: its pictures side by side, and what is known of it."""

    idx: str
    caption: str
    images: tuple[bytes, ...]
    """Encoded pictures."""
    labels: tuple[str, ...] = ()
    """One under each picture (original, reconstruction), or none."""
    seed: int | None = None
    score: str | None = None
    sample: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Figure:
    picture: Embedded
    label: str


@dataclass(frozen=True, kw_only=True)
class _Card:
    caption: str
    figures: tuple[_Figure, ...]
    facts: tuple[tuple[str, str], ...]


def render_gallery(
    entries: Iterable[GalleryEntry],
    *,
    title: str,
    subtitle: str = "",
    total: int | None = None,
    max_entries: int = 500,
    seed: int = 0,
) -> str:
    """The page as text.

    Args:
        entries: rows in the order to show; read once and never held all together.
        title: heading, and the browser's title.
        subtitle: a line below it (the model, the settings).
        total: rows of the table, where `entries` is a sample of it by the same seed.
        max_entries: more rows than this are sampled.
        seed: of that sample, which is a function of it and of the number of rows alone.

    Raises:
        ValueError: a picture that cannot be shown, or labels that do not match the pictures.
    """
    if max_entries < 1:
        raise ValueError(f"max_entries must be at least 1, got {max_entries}")
    chosen, count = _sample(entries, max_entries, seed)
    if total is not None and total < count:
        raise ValueError(f"total must be at least the {count} entries given, got {total}")
    cards = [_card(entry) for entry in chosen]
    environment = Environment(
        loader=PackageLoader("painter_core.stages.make_gallery", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=visible(title),
        subtitle=visible(subtitle),
        extent=_extent(len(cards), count if total is None else total, seed),
        cards=cards,
        is_paired=any(len(card.figures) > 1 for card in cards),
    )


def write_gallery(
    path: str,
    entries: Iterable[GalleryEntry],
    *,
    title: str,
    subtitle: str = "",
    total: int | None = None,
    max_entries: int = 500,
    seed: int = 0,
) -> None:
    """Write the page of render_gallery to a path or URL, whole or not at all."""
    page = render_gallery(
        entries, title=title, subtitle=subtitle, total=total, max_entries=max_entries, seed=seed
    )
    write_bytes(*filesystem(path), page.encode("utf-8"))


def _sample(entries: Iterable[GalleryEntry], max_entries: int, seed: int) -> tuple[list[GalleryEntry], int]:
    """At most max_entries of them in their order, equally likely (algorithm R), and how many there were."""
    generator = random.Random(seed)
    kept: list[tuple[int, GalleryEntry]] = []
    count = 0
    for count, entry in enumerate(entries, start=1):
        if len(kept) < max_entries:
            kept.append((count, entry))
        elif (slot := generator.randrange(count)) < max_entries:
            kept[slot] = (count, entry)
    return [entry for _, entry in sorted(kept, key=lambda numbered: numbered[0])], count


def _extent(shown: int, total: int, seed: int) -> str:
    if shown < total:
        return f"{shown:,} of {total:,} shown, sampled with seed {seed}"
    return f"{total:,} {'row' if total == 1 else 'rows'}"


def _card(entry: GalleryEntry) -> _Card:
    if entry.labels and len(entry.labels) != len(entry.images):
        raise ValueError(f"idx {entry.idx!r}: {len(entry.labels)} labels for {len(entry.images)} images")
    labels = entry.labels or ("",) * len(entry.images)
    facts = {
        "idx": shown(entry.idx, IDX_CHARS),
        "sample": entry.sample,
        "seed": entry.seed,
        "score": entry.score,
    }
    return _Card(
        caption=shown(entry.caption, CAPTION_CHARS),
        figures=tuple(
            _figure(image, visible(label), entry.idx)
            for image, label in zip(entry.images, labels, strict=True)
        ),
        facts=tuple((name, visible(str(value))) for name, value in facts.items() if value is not None),
    )


def _figure(image: bytes, label: str, idx: str) -> _Figure:
    try:
        return _Figure(picture=embed(image), label=label)
    except ValueError as error:
        raise ValueError(f"the picture of idx {idx!r} cannot be shown: {error}") from error
