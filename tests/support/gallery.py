"""Gallery pages for the tests, and what they say."""

import re
from pathlib import Path

from painter_core.stages.make_gallery.entries import GalleryConfig, write_page


def page_of(directory: Path, **flags: object) -> str:
    """The page that a gallery with these flags writes."""
    path = directory / "page.html"
    write_page(GalleryConfig(**{"outputs": str(path), "overwrite": True} | flags))  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def facts(page: str, name: str) -> list[str]:
    """The values of a fact that cards give of their rows, in order."""
    return re.findall(rf"<dt>{name}</dt><dd>(.*?)</dd>", page)
