"""The published models by name, fetched into the machine's cache.

A name such as `alibaba-pai/pai-painter-base-zh` stands for a .tgz archive of an EasyNLP directory (or of one
of ours). Where archives are: zoo_places.py. What was fetched: zoo_pins.py. PAINTER_OFFLINE=1 forbids the
network; what is in the cache is used without it.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from painter_core.files.cache import build_once, cache_root, workplace
from painter_core.files.storage import redact
from painter_core.model_files.zoo_archive import check_archive, local_copy, unpack
from painter_core.model_files.zoo_pins import (
    Pin,
    look_for_another,
    pin_file,
    pinned_directory,
    read_pin,
    stem_of,
    version_of,
    write_pin,
)
from painter_core.model_files.zoo_places import OWNER, Archive, asks_easynlp, is_placed, locate, own_names

log = logging.getLogger(__name__)

NAMES = {
    "pai-painter-base-zh": "202 million parameters, to be fine-tuned",
    "pai-painter-large-zh": "433 million parameters, to be fine-tuned",
    "pai-painter-commercial-base-zh": "fine-tuned on e-commerce products",
    "pai-painter-scenery-base-zh": "fine-tuned on natural scenery",
    "pai-painter-painting-base-zh": "fine-tuned on Chinese landscape painting",
}
TASK = "text2image_generation"  # the task of which DEFAULT is the model
DEFAULT = "pai-painter-base-zh"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the list of models."""

    name: str
    about: str
    pin: Pin | None
    """None: it is not in the cache."""


def names() -> list[str]:
    """The article's names and those of PAINTER_ZOO's registry, if it is one."""
    return [*NAMES, *(n for n in own_names() if n.removeprefix(OWNER) not in NAMES)]


def is_name(name: str) -> bool:
    """Whether a string is a name of the zoo, with or without its owner."""
    return name.removeprefix(OWNER) in NAMES or asks_easynlp(name) or name.removeprefix(OWNER) in names()


def listing() -> list[Entry]:
    """Every known name, and what is in the cache under another one."""
    found = {name: NAMES.get(name, "of PAINTER_ZOO's registry") for name in names()}
    for file in sorted((cache_root() / "zoo").glob("*.json")):
        if file.stem not in {stem_of(name.removeprefix(OWNER)) for name in found}:
            found[file.stem.replace("--", "/")] = "fetched before"
    entries = []
    for name, about in found.items():
        pin = read_pin(name.removeprefix(OWNER))
        cached = pin is not None and pinned_directory(name.removeprefix(OWNER), pin.sha256).is_dir()
        entries.append(Entry(name=name, about=about, pin=pin if cached else None))
    return entries


def fetch(name: str) -> Path:
    """The unpacked directory of a named model, from the cache or fetched into it.

    Raises:
        ValueError: it cannot be fetched; the message says which file to put where.
    """
    short = name.removeprefix(OWNER)
    pin = read_pin(short)
    cached = pinned_directory(short, pin.sha256) if pin else None
    if pin is None or cached is None or not cached.is_dir():
        archive = locate(short)
        return Path(archive.url) if Path(archive.url).is_dir() else _fetch(short, archive, pin)
    place = _place(short)
    if place is not None and Path(place.url).is_dir():
        return Path(place.url)
    _agreed(short, place, pin)
    url = place.url if place else pin.archive
    look_for_another(short, pin, url, lambda: version_of(url, plain=True))  # nothing is taken from there
    _tell(short, pin)
    return cached


def _place(short: str) -> Archive | None:
    """Where this machine says that the archive of a model in the cache is; None if it does not, or cannot."""
    if not is_placed(short):
        return None
    try:
        return locate(short)
    except ValueError as error:
        log.warning("zoo: %s. The copy in the cache is used", error)
        return None


def _fetch(short: str, archive: Archive, pin: Pin | None) -> Path:
    sha = _agreed(short, archive, pin)
    with workplace(f"zoo/{stem_of(short)}") as temporary:
        file, version = local_copy(short, archive, sha, temporary)
        found = check_archive(short, archive.url, file, archive.size_bytes, sha)
        cached = build_once(f"zoo/{pinned_directory(short, found).name}", lambda target: unpack(file, target))
    new = Pin(archive=redact(archive.url), sha256=found, version=version)
    write_pin(short, new)
    _tell(short, new)
    return cached


def _agreed(short: str, archive: Archive | None, pin: Pin | None) -> str | None:
    """The sha256 that the archive must have; None if it was never seen and the registry does not say it."""
    stated = archive.sha256 if archive else None
    if pin is not None and stated not in (None, pin.sha256):
        raise ValueError(
            f"{short}: the registry says sha256 {stated}, but the archive used here before, from "
            f"{pin.archive}, has {pin.sha256}. To take the new one, remove {pin_file(short)}"
        )
    return stated or (pin.sha256 if pin else None)


def _tell(short: str, pin: Pin) -> None:
    about = NAMES.get(short, "of the registry")
    log.info("zoo: %s (%s): from %s, sha256 %s", short, about, pin.archive, pin.sha256)
