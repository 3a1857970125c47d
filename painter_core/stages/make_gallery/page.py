"""A gallery: one self-contained HTML page of pictures with their captions.

GalleryEntry rows (encoded pictures) -> data: URIs -> page.html.j2. A page has at most MAX_PICTURES pictures,
each of KEEP_BYTES, which base64 makes a third larger: 45 MB.

Captions, ids and pictures come from tables and are not trusted: the template escapes, the page's own policy
forbids scripts and every request, invisible characters are written out, and a picture reaches the page only
after Pillow took it for one of the allowed formats.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from painter_core.files.storage import filesystem, write_bytes
from painter_core.images.embed import embed
from painter_core.text.escape import cut, visible
from painter_core.text.templates import templates_of

MAX_PICTURES = 1000
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
    told: tuple[tuple[str, str], ...] = ()
    """Other columns of numbers: name and value."""
    pictures: str | None = None
    """Which of its pictures are shown, if not all."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture as a page has it."""

    uri: str
    width: int
    height: int
    label: str
    is_pixelated: bool


@dataclass(frozen=True, kw_only=True)
class _Card:
    caption: str
    figures: tuple[Figure, ...]
    facts: tuple[tuple[str, str], ...]


def render_gallery(
    entries: Iterable[GalleryEntry],
    *,
    title: str,
    subtitle: str = "",
    total: int | None = None,
    seed: int = 0,
) -> str:
    """The page as text.

    Args:
        entries: the rows to show, in their order; read once, their pictures are not held together.
        title: heading, and the browser's title.
        subtitle: a line below it (the model, the settings).
        total: rows of the table, if `entries` are a sample of them.
        seed: seed of that sample.

    Raises:
        ValueError: a picture that cannot be shown, more than MAX_PICTURES, or labels that do not match the
            pictures.
    """
    cards, pictures = list[_Card](), 0
    for entry in entries:
        cards.append(_card(entry))
        pictures += len(entry.images)
        if pictures > MAX_PICTURES:
            raise ValueError(f"more than {MAX_PICTURES:,} pictures for one page; show fewer rows")
    return render(
        "page.html.j2",
        title=title,
        subtitle=subtitle,
        extent=extent(len(cards), len(cards) if total is None else total, pictures, seed),
        cards=cards,
        is_paired=any(len(card.figures) > 1 for card in cards),
    )


def render(template: str, *, title: str, subtitle: str, **values: object) -> str:
    """A template of this folder, filled."""
    found = templates_of("painter_core.stages.make_gallery").get_template(template)
    return found.render(title=visible(title), subtitle=visible(subtitle), **values)


def write_gallery(
    path: str,
    entries: Iterable[GalleryEntry],
    *,
    title: str,
    subtitle: str = "",
    total: int | None = None,
    seed: int = 0,
) -> None:
    """Write the page of render_gallery to a path or URL, whole or not at all."""
    page = render_gallery(entries, title=title, subtitle=subtitle, total=total, seed=seed)
    write_bytes(*filesystem(path), page.encode("utf-8"))


def extent(rows: int, total: int, pictures: int, seed: int) -> str:
    """What of a table is shown, for a person."""
    shown = f"{total:,} {'row' if total == 1 else 'rows'}"
    if rows < total:
        shown = f"{rows:,} of {total:,} rows shown, sampled with seed {seed}"
    if pictures > rows:
        shown += f"; {pictures:,} pictures, of at most {MAX_PICTURES:,} a page"
    return shown


def _card(entry: GalleryEntry) -> _Card:
    if entry.labels and len(entry.labels) != len(entry.images):
        raise ValueError(f"idx {entry.idx!r}: {len(entry.labels)} labels for {len(entry.images)} images")
    labels = entry.labels or ("",) * len(entry.images)
    facts = {
        "idx": cut(entry.idx, IDX_CHARS),
        "sample": entry.sample,
        **dict(entry.told),
        "seed": entry.seed,
        "score": entry.score,
        "pictures": entry.pictures,
    }
    return _Card(
        caption=cut(entry.caption, CAPTION_CHARS),
        figures=tuple(
            make_figure(image, visible(label), entry.idx)
            for image, label in zip(entry.images, labels, strict=True)
        ),
        facts=tuple((name, visible(str(value))) for name, value in facts.items() if value is not None),
    )


def make_figure(image: bytes, label: str, idx: str) -> Figure:
    """A picture that a page may show, small enough; ValueError, with its idx, if it cannot be shown."""
    try:
        found = embed(image)
    except ValueError as error:
        raise ValueError(f"the picture of idx {idx!r} cannot be shown: {error}") from error
    return Figure(
        uri=found.uri,
        width=found.width,
        height=found.height,
        label=label,
        is_pixelated=found.is_pixelated,
    )
