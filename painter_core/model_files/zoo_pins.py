"""What was fetched: for each model the sha256 of its archive, kept at its first use and compared ever after.

    PAINTER_CACHE/zoo/NAME.json    {"archive": "...", "sha256": "...", "version": "..."}
    PAINTER_CACHE/zoo/NAME-<sha256's beginning>/    the files

A copy in the cache is used without asking where it came from. So that an archive which was replaced there is
noticed all the same, its version is compared: of a local file at each use, over the network once an hour.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from painter_core.files import https
from painter_core.files.cache import cache_root
from painter_core.files.storage import file_sha256, filesystem, is_local, read_json, redact, write_json
from painter_core.model_files.zoo_places import is_offline

log = logging.getLogger(__name__)

LOOK_EVERY_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A model that was fetched once."""

    archive: str
    """From where, without credentials."""
    sha256: str
    version: str = ""
    """What changes if the archive does: size and time of a file, ETag or date of a URL; empty if unknown."""


def stem_of(short: str) -> str:
    """A model's name as the beginning of a file name."""
    return short.replace("/", "--")


def pin_file(short: str) -> Path:
    """Where a model's pin is kept."""
    return cache_root() / "zoo" / f"{stem_of(short)}.json"


def pinned_directory(short: str, sha: str) -> Path:
    """Where a model's files are kept."""
    return cache_root() / "zoo" / f"{stem_of(short)}-{sha[:16]}"


def read_pin(short: str) -> Pin | None:
    """A model's pin; None if it was never fetched.

    Raises:
        ValueError: the file is damaged.
    """
    file = pin_file(short)
    if not file.is_file():
        return None
    content = read_json(*filesystem(str(file)))
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), str) for k in ("archive", "sha256")
    ):
        raise ValueError(f"{file}: no pin of an archive; remove it to fetch {short} anew")
    return Pin(**{k: content[k] for k in ("archive", "sha256", "version") if k in content})


def write_pin(short: str, pin: Pin) -> None:
    """Keeps a model's pin."""
    write_json(*filesystem(str(pin_file(short))), asdict(pin))


def version_of(url: str, *, plain: bool = False) -> str:
    """What changes if an archive does.

    Raises:
        OSError: it cannot be looked at.
    """
    if is_local(url):
        found = os.stat(filesystem(url)[1])
        return f"{found.st_size} {found.st_mtime_ns}"
    if url.startswith(("http://", "https://")):
        return https.version(url, plain=plain)
    fs, path = filesystem(url)
    info = fs.info(path)
    return " ".join(str(info[k]) for k in ("ETag", "etag", "LastModified", "mtime", "size") if info.get(k))


def look_for_another(short: str, pin: Pin, url: str, read_version: Callable[[], str]) -> None:
    """Warns if the archive behind `url` is no longer the one whose copy is used.

    Args:
        read_version: of what is there now; may raise OSError.
    """
    file = pin_file(short)
    local = is_local(url)
    if not local and (is_offline() or time.time() - file.stat().st_mtime < LOOK_EVERY_S):
        return
    try:
        version = read_version()
    except OSError as error:
        log.info("zoo: %s: %s cannot be looked at (%s)", short, redact(url), error)
        file.touch()
        return
    same_place = redact(url) == pin.archive
    if same_place and version == pin.version:
        file.touch()
        return
    if (local and file_sha256(Path(filesystem(url)[1])) == pin.sha256) or (same_place and not pin.version):
        write_pin(short, Pin(archive=redact(url), sha256=pin.sha256, version=version))
        return
    file.touch()
    what = "was replaced since" if same_place else f"is another place than {pin.archive}, from where"
    log.warning(
        "zoo: %s: %s %s it was fetched; the copy in the cache, sha256 %s, is used all the same. To take the "
        "new one, remove %s", short, redact(url), what, pin.sha256[:16], file,
    )  # fmt: skip
