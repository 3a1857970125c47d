"""What a run was told and what it was made from, as facts of a page."""

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from painter_core.files.storage import filesystem, is_local, redact
from painter_core.stages.report.page import Fact
from painter_core.text.escape import cut

VALUE_CHARS = 300
MOST_FILES = 20


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested settings; without those that are not given."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name} ")
        elif value not in (None, ""):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{prefix}{name}".replace("_", " "), redact(shown)


def facts(values: Mapping[str, Any]) -> tuple[Fact, ...]:
    """The same as facts."""
    return tuple(Fact(name=cut(name, 80), value=cut(value, VALUE_CHARS)) for name, value in flat(values))


def origin(name: str, path: str, page: str) -> Fact:
    """What a run was made from; a local path as a link from the page.

    Args:
        name: what it is.
        path: path or URL.
        page: path or URL of the page.
    """
    href = ""
    if is_local(path) and is_local(page):
        place = filesystem(path)[1]
        if os.path.exists(place):
            href = quote(os.path.relpath(place, os.path.dirname(filesystem(page)[1])))
    return Fact(name=name, value=cut(redact(path), VALUE_CHARS), href=href)


def origins(name: str, paths: list[str], page: str) -> tuple[Fact, ...]:
    """The same of many, the first of them."""
    found = [origin(name if i == 0 else "", path, page) for i, path in enumerate(paths[:MOST_FILES])]
    if len(paths) > MOST_FILES:
        found.append(Fact(name="", value=f"and {len(paths) - MOST_FILES:,} more"))
    return tuple(found)
