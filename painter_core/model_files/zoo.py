"""The published models by name: where their archives are, and fetching them into the machine's cache.

A name such as `alibaba-pai/pai-painter-base-zh` stands for a .tgz archive of an EasyNLP directory (or of one
of ours). PAINTER_ZOO says where archives are: a directory or base URL that holds NAME.tgz (a local one may
also hold NAME/, unpacked), or a registry, a .json file of the form

    {"NAME": "ARCHIVE" or {"archive": "ARCHIVE", "size_bytes": 123, "sha256": "..."}, ...}

where ARCHIVE is a URL, or a path relative to the registry. It has no default: the article names no place.
PAINTER_OFFLINE=1 forbids the network. The sha256 of an archive is pinned at its first use and compared ever
after.
"""

import asyncio
import logging
import os
import re
import shutil
import tarfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.callbacks import Callback

from painter_core.files.cache import build_once, cache_root, workplace
from painter_core.files.storage import file_sha256, filesystem, is_local, read_json, redact, write_json

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
OWNER = "alibaba-pai/"
KEPT = ("config.json", "pytorch_model.bin", "vocab.txt", "tokenizer_config.json", "vqgan.safetensors",
        "gpt.safetensors", "tokenizer.json", "README.md")  # fmt: skip
MAX_BYTES = 64 * 2**30  # limit for an archive, and for what it unpacks to
MAX_MEMBERS = 10_000
PROGRESS_S = 5.0
LOOPBACK = re.compile(r"http://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?/")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Where a model's archive is, and what is known about it."""

    url: str
    """Absolute path, or URL."""
    size_bytes: int | None = None
    sha256: str | None = None


def names() -> list[str]:
    """The article's names and those of the registry, if there is one."""
    return [*NAMES, *(n for n in _registry() if n.removeprefix(OWNER) not in NAMES)]


def is_name(name: str) -> bool:
    """Whether a string is a name of the zoo, with or without its owner."""
    return name.removeprefix(OWNER) in names()


def fetch(name: str) -> Path:
    """The unpacked directory of a named model, from the cache or fetched into it.

    Raises:
        ValueError: it cannot be fetched; the message says which file to put where.
    """
    short = name.removeprefix(OWNER)
    stem = short.replace("/", "--")
    pin_file = cache_root() / "zoo" / f"{stem}.json"
    pin = _parse(short, read_json(*filesystem(str(pin_file)))) if pin_file.is_file() else None
    archive = _locate(short)
    if archive is not None and Path(archive.url).is_dir():
        return Path(archive.url)
    sha = _agreed(short, archive, pin, pin_file)
    cached = cache_root() / "zoo" / f"{stem}-{(sha or '')[:16]}"
    if sha is None or not cached.is_dir():
        if archive is None:
            raise _unavailable(short, "PAINTER_ZOO is not set, and no place of the archives is known")
        with workplace(f"zoo/{stem}") as temporary:
            file = _local_copy(short, archive, sha, temporary)
            found = _check(short, archive.url, file, archive.size_bytes, sha)
            cached = build_once(f"zoo/{stem}-{found[:16]}", lambda directory: _unpack(file, directory))
        sha, pin = found, Archive(url=redact(archive.url), sha256=found)
        write_json(*filesystem(str(pin_file)), {"archive": pin.url, "sha256": found})
    source = pin or archive
    about = NAMES.get(short, "of the registry")
    log.info("zoo: %s (%s): from %s, sha256 %s", short, about, redact(source.url) if source else "", sha)
    return cached


def _locate(short: str) -> Archive | None:
    """The archive put into the cache by hand, or the one that PAINTER_ZOO names; None if there is none."""
    by_hand = _by_hand(short)
    if by_hand.is_file():
        return Archive(url=str(by_hand))
    base = os.environ.get("PAINTER_ZOO", "").strip().rstrip("/")
    if not base:
        return None
    if base.endswith(".json"):
        entry = next((e for n, e in _registry().items() if n.removeprefix(OWNER) == short), None)
        if entry is None:
            raise ValueError(
                f"{short}: the registry {redact(base)} does not name it; it names {', '.join(_registry())}"
            )
        return _parse(short, entry, base=base.rpartition("/")[0])
    unpacked = f"{base}/{short}"
    if is_local(base) and (Path(filesystem(unpacked)[1]) / "config.json").is_file():
        return Archive(url=_absolute(unpacked))
    return Archive(url=_absolute(f"{base}/{short}.tgz"))


def _by_hand(short: str) -> Path:
    return cache_root() / "zoo" / f"{short.replace('/', '--')}.tgz"


def _registry() -> dict[str, Any]:
    base = os.environ.get("PAINTER_ZOO", "").strip()
    if not base.endswith(".json"):
        return {}
    if not is_local(base):
        _check_network("PAINTER_ZOO", base, None)
    try:
        content = read_json(*_open(base))
    except _network_errors() as error:
        raise _unavailable("PAINTER_ZOO", f"{redact(base)}: {type(error).__name__}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"PAINTER_ZOO {redact(base)}: expected an object that maps names to archives")
    return content


def _parse(name: str, entry: Any, base: str = "") -> Archive:
    fields = {"archive": entry} if isinstance(entry, str) else entry
    known = {"archive", "size_bytes", "sha256"}
    if not isinstance(fields, dict) or "archive" not in fields or set(fields) - known:
        raise ValueError(
            f"registry: {name}: got {entry!r}, expected a string, or archive, size_bytes and sha256"
        )
    url = str(fields["archive"])
    if base and "://" not in url and not os.path.isabs(url):
        url = f"{base}/{url}"
    if base and is_local(url) and not is_local(base):
        raise ValueError(f"registry: {name}: {redact(base)} names a path on this machine, {url}; refused")
    return Archive(url=_absolute(url), size_bytes=fields.get("size_bytes"), sha256=fields.get("sha256"))


def _absolute(url: str) -> str:
    return str(filesystem(url)[1]) if is_local(url) else url


def _agreed(short: str, archive: Archive | None, pin: Archive | None, pin_file: Path) -> str | None:
    """The sha256 that the archive must have; None if it was never seen and the registry does not say it."""
    stated = archive.sha256 if archive else None
    if pin is not None and stated not in (None, pin.sha256):
        raise ValueError(
            f"{short}: the registry says sha256 {stated}, but the archive used here before, from {pin.url}, "
            f"has {pin.sha256}. To take the new one, remove {pin_file}"
        )
    return stated or (pin.sha256 if pin else None)


def _local_copy(short: str, archive: Archive, sha: str | None, temporary: Path) -> Path:
    """The archive as a local file: itself, or downloaded."""
    if is_local(archive.url):
        if not Path(archive.url).is_file():
            raise _unavailable(short, f"{archive.url}: no such file")
        return Path(archive.url)
    _check_network(short, archive.url, sha)
    file = temporary / "archive.tgz"
    log.info("zoo: %s: downloading %s", short, redact(archive.url))
    try:
        fs, path = _open(archive.url)
        fs.get_file(path, str(file), callback=_Progress(short, archive.size_bytes))
    except _network_errors() as error:
        raise _unavailable(short, f"{redact(archive.url)}: {type(error).__name__}: {error}") from None
    return file


def _check_network(name: str, url: str, sha: str | None) -> None:
    if os.environ.get("PAINTER_OFFLINE", "0") not in ("", "0"):
        raise _unavailable(name, f"PAINTER_OFFLINE is set, so {redact(url)} is not asked")
    if url.startswith("http://") and sha is None and not LOOPBACK.match(url):
        raise _unavailable(
            name,
            f"{redact(url)} is plain http, where anybody on the way can change the archive; use https, or a "
            "registry on this machine that states its sha256",
        )


def _open(url: str) -> tuple[Any, str]:
    """File system and path, also for http(s), which only the zoo reads."""
    if not url.startswith(("http://", "https://")):
        return filesystem(url)
    import aiohttp  # fsspec reads http with it; it comes with Ray

    # by default a download ends after five minutes, whole or not
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    return fsspec.core.url_to_fs(url, client_kwargs={"trust_env": True, "timeout": timeout})


def _network_errors() -> tuple[type[Exception], ...]:
    import aiohttp

    return (OSError, asyncio.TimeoutError, aiohttp.ClientError)


def _unavailable(name: str, why: str) -> ValueError:
    short = name if name in NAMES else "NAME"
    return ValueError(
        f"{name}: {why}. Put the model's archive (.tgz of config.json, pytorch_model.bin, vocab.txt) at "
        f"{_by_hand(short)}; or set PAINTER_ZOO to a directory or URL that holds {short}.tgz, or to a "
        "registry (.json); or give the path of an unpacked directory instead of the name"
    )


class _Progress(Callback):
    """A line in the log every few seconds; ends a download that is not what was promised."""

    def __init__(self, name: str, size_bytes: int | None) -> None:
        super().__init__()
        self._name, self._expected = name, size_bytes
        self._began = self._last = time.monotonic()

    def set_size(self, size: int | None) -> None:
        super().set_size(size)
        if size is not None and (size > MAX_BYTES or self._expected not in (None, size)):
            raise ValueError(
                f"{self._name}: the archive has {size:,} bytes, expected {self._expected or MAX_BYTES:,}"
            )

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.value > MAX_BYTES:
            raise ValueError(f"{self._name}: more than {MAX_BYTES:,} bytes; this is no model")
        now = time.monotonic()
        if now - self._last > PROGRESS_S:
            self._last = now
            total = f" of {self.size / 1e6:.0f}" if self.size else ""
            rate = self.value / 1e6 / (now - self._began)
            log.info("zoo: %s: %.0f%s MB, %.1f MB/s", self._name, self.value / 1e6, total, rate)


def _check(short: str, url: str, file: Path, size_bytes: int | None, sha: str | None) -> str:
    """The archive's sha256; ValueError unless size and sha256 are the expected ones."""
    size, found = file.stat().st_size, file_sha256(file)
    if size_bytes not in (None, size):
        raise ValueError(
            f"{short}: {redact(url)} has {size:,} bytes, expected {size_bytes:,}; it is cut, or another file"
        )
    if sha not in (None, found):
        raise ValueError(
            f"{short}: {redact(url)} has sha256 {found}, expected {sha}; it was changed. Nothing was unpacked"
        )
    return found


def _unpack(file: Path, directory: Path) -> None:
    """Unpacks the files of a model, from the one directory in the archive that holds config.json."""
    unpacked = directory / ".unpacked"
    try:
        with tarfile.open(file) as tar:
            size = 0
            for number, member in enumerate(tar):
                tarfile.data_filter(member, str(unpacked))  # raises for an unsafe member, wanted or not
                size += member.size
                if not (member.isfile() or member.isdir()) or size > MAX_BYTES or number >= MAX_MEMBERS:
                    raise ValueError(
                        f"{file}: {member.name!r}: a link or device, or too much of it; nothing is unpacked"
                    )
                if member.isfile() and Path(member.name).name in KEPT:
                    tar.extract(member, unpacked, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{file}: no sound archive ({type(error).__name__}: {error})") from None
    roots = [path.parent for path in unpacked.rglob("config.json")]
    if len(roots) != 1:
        raise ValueError(f"{file}: {len(roots)} directories with a config.json, expected one")
    for path in roots[0].iterdir():
        if path.is_file():
            path.rename(directory / path.name)
    shutil.rmtree(unpacked)
