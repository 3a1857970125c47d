"""Where the archive of a named model is: put into the cache by hand, where PAINTER_ZOO says, or in EasyNLP's
own registry.

PAINTER_ZOO is a directory or base URL that holds NAME.tgz (a local one may also hold NAME/, unpacked), or a
registry, a .json file of the form

    {"NAME": "ARCHIVE" or {"archive": "ARCHIVE", "size_bytes": 123, "sha256": "..."}, ...}

where ARCHIVE is a URL, or a path relative to the registry. EasyNLP's registry has that form too.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from painter_core.files.cache import cache_root
from painter_core.files.https import LOOPBACK, Unreachable, read_url
from painter_core.files.storage import filesystem, is_local, redact

OWNER = "alibaba-pai/"
# of EASYNLP_REMOTE_MODELZOO in EasyNLP's easynlp/utils/__init__.py, which reads it over plain http
EASYNLP_REGISTRY = (
    "https://atp-modelzoo-sh.oss-cn-shanghai.aliyuncs.com/release/easynlp_modelzoo/modelzoo_alibaba.json"
)
MAX_REGISTRY_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Where a model's archive is, and what is known about it."""

    url: str
    """Absolute path, or URL."""
    size_bytes: int | None = None
    sha256: str | None = None


def locate(short: str) -> Archive:
    """The archive of a model.

    Raises:
        ValueError: no registry names it, or none can be read; the message says which file to put where.
    """
    if by_hand(short).is_file():
        return Archive(url=str(by_hand(short)))
    base = _base()
    if not base:
        return _of_registry(
            short, EASYNLP_REGISTRY, "EasyNLP's registry", read_registry(short, EASYNLP_REGISTRY)
        )
    if base.endswith(".json"):
        return _of_registry(short, base, "the registry", read_registry("PAINTER_ZOO", base))
    unpacked = f"{base}/{short}"
    if is_local(base) and (Path(filesystem(unpacked)[1]) / "config.json").is_file():
        return Archive(url=_absolute(unpacked))
    return Archive(url=_absolute(f"{base}/{short}.tgz"))


def own_names() -> list[str]:
    """What the registry of PAINTER_ZOO names, if it is one."""
    return list(read_registry("PAINTER_ZOO", _base())) if _base().endswith(".json") else []


def asks_easynlp(name: str) -> bool:
    """Whether EasyNLP's registry is where a name is looked up: its owner's, while PAINTER_ZOO is not set."""
    return name.startswith(OWNER) and not _base()


def is_placed(short: str) -> bool:
    """Whether this machine says where an archive is, by a file put there or by PAINTER_ZOO."""
    return by_hand(short).is_file() or bool(_base())


def by_hand(short: str) -> Path:
    """Where a user puts an archive that cannot be found otherwise."""
    return cache_root() / "zoo" / f"{short.replace('/', '--')}.tgz"


def read_registry(name: str, url: str) -> dict[str, Any]:
    """Model -> entry.

    Args:
        name: what the message begins with, if it cannot be read.
    """
    if not is_local(url):
        check_network(name, url, None)
    try:
        if url.startswith(("http://", "https://")):
            data = read_url(url, MAX_REGISTRY_BYTES)
        else:
            fs, path = filesystem(url)
            data = fs.cat_file(path)
    except Unreachable as error:
        raise unavailable(name, f"{redact(url)}: {error}") from None
    except OSError as error:
        raise unavailable(name, f"{redact(url)}: {type(error).__name__}: {error}") from None
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise unavailable(name, f"{redact(url)}: something else than a registry, {data[:40]!r}") from None
    if not isinstance(content, dict):
        raise unavailable(name, f"{redact(url)}: expected an object that maps names to archives")
    return content


def _of_registry(short: str, url: str, what: str, registry: dict[str, Any]) -> Archive:
    entry = next((e for n, e in registry.items() if n.removeprefix(OWNER) == short), None)
    if entry is None:
        named = sorted(registry, key=lambda name: "painter" not in name)
        more = f" and {len(named) - 10} more" if len(named) > 10 else ""
        raise unavailable(
            short, f"{what} {redact(url)} does not name it; it names {', '.join(named[:10])}{more}"
        )
    fields = {"archive": entry} if isinstance(entry, str) else entry
    known = {"archive", "size_bytes", "sha256"}
    if not isinstance(fields, dict) or "archive" not in fields or set(fields) - known:
        raise ValueError(
            f"registry: {short}: got {entry!r}, expected a string, or archive, size_bytes and sha256"
        )
    base, archive = url.rpartition("/")[0], str(fields["archive"])
    if "://" not in archive and not os.path.isabs(archive):
        archive = f"{base}/{archive}"
    if is_local(archive) and not is_local(base):
        raise ValueError(
            f"registry: {short}: {redact(base)} names a path on this machine, {archive}; refused"
        )
    return Archive(url=_absolute(archive), size_bytes=fields.get("size_bytes"), sha256=fields.get("sha256"))


def _base() -> str:
    return os.environ.get("PAINTER_ZOO", "").strip().rstrip("/")


def _absolute(url: str) -> str:
    return str(filesystem(url)[1]) if is_local(url) else url


def is_offline() -> bool:
    """Whether PAINTER_OFFLINE forbids the network."""
    return os.environ.get("PAINTER_OFFLINE", "0") not in ("", "0")


def check_network(name: str, url: str, sha: str | None) -> None:
    """Raises ValueError if a URL is not to be asked: offline, or plain http without a sha256."""
    if is_offline():
        raise unavailable(name, f"PAINTER_OFFLINE is set, so {redact(url)} is not asked")
    if url.startswith("http://") and sha is None and not LOOPBACK.match(url):
        raise unavailable(
            name,
            f"{redact(url)} is plain http, where anybody on the way can change the archive; use https, or a "
            "registry on this machine that states its sha256",
        )


def unavailable(name: str, why: str) -> ValueError:
    """What to say when a model cannot be fetched: the reason, and which file to put where."""
    short = "NAME" if name == "PAINTER_ZOO" else name
    return ValueError(
        f"{name}: {why}. Put the model's archive (.tgz of config.json, pytorch_model.bin, vocab.txt) at "
        f"{by_hand(short)}; or set PAINTER_ZOO to a directory or URL that holds {short}.tgz, or to a "
        "registry (.json); or give the path of an unpacked directory instead of the name"
    )
