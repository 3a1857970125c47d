"""Models of Hugging Face and ModelScope, through these hubs' own clients, into the machine's cache.

    hf://OWNER/NAME    hf://OWNER/NAME/FILE    hf://OWNER/NAME@REVISION    modelscope:// likewise

Of a repository only the files are fetched that a model is read from: its config, vocabulary and weights, and
of shards those that hold a wanted tensor. What was fetched is pinned as the zoo's archives are (zoo_pins.py).
"""

import hashlib
import importlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from painter_core.files.cache import build_once
from painter_core.files.https import OPEN_S, Unreachable, within
from painter_core.files.storage import file_sha256
from painter_core.model_files.needed_files import needed_files, needed_shards
from painter_core.model_files.zoo_pins import (
    Pin,
    look_for_another,
    pin_file,
    pinned_directory,
    read_pin,
    write_pin,
)
from painter_core.model_files.zoo_places import is_offline

log = logging.getLogger(__name__)

SCHEMES = ("hf://", "modelscope://")
_PART = r"[\w][\w.-]*"
_ADDRESS = re.compile(
    rf"(?P<hub>hf|modelscope)://(?P<repo>{_PART}/{_PART})(?P<file>(/{_PART})*)(@(?P<at>[\w./-]+))?"
)

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class _Client:
    """What is asked of a hub about one repository."""

    files: Callable[[], list[str]]
    """Paths of all files."""
    version: Callable[[], str]
    """What changes if one of them does."""
    download: Callable[[str, Path], Any]
    """Puts a file below a directory, at its path within the repository."""
    errors: tuple[type[Exception], ...]
    """What the client raises when it cannot have something."""

    def ask(self, call: Callable[[], Found], seconds: float | None = None) -> Found:
        """The answer; Unreachable if there is none."""
        errors: tuple[type[Exception], ...] = (OSError, *self.errors)
        try:
            return within(seconds, call) if seconds else call()
        except errors as error:
            reason = (str(error) or repr(error)).strip().splitlines()[0][:300]
            raise Unreachable(f"{type(error).__name__}: {reason}") from None


def fetch(url: str) -> Path:
    """The directory of a model's files, or the file that the URL names; from the cache or fetched into it.

    Raises:
        ValueError: no such address, the client is not installed, or the files cannot be had.
    """
    match = _ADDRESS.fullmatch(url)
    if match is None:
        raise ValueError(
            f"{url}: expected hf://OWNER/NAME or modelscope://OWNER/NAME, then /FILE and @REVISION"
        )
    short = url.replace("://", "/")
    file = match["file"].removeprefix("/")
    pin = read_pin(short)
    cached = pinned_directory(short, pin.sha256) if pin else None
    if pin is not None and cached is not None and cached.is_dir():
        if not is_offline():
            client = _client(match["hub"], match["repo"], match["at"])
            look_for_another(short, pin, url, lambda: client.ask(client.version, OPEN_S))
    else:
        cached = _fetch(url, short, file, pin, match)
    return cached / Path(file).name if file else cached


def _fetch(url: str, short: str, file: str, pin: Pin | None, match: re.Match[str]) -> Path:
    if is_offline():
        raise _unavailable(url, "PAINTER_OFFLINE is set, so nobody is asked")
    client = _client(match["hub"], match["repo"], match["at"])
    try:
        version, names = client.ask(client.version, OPEN_S), client.ask(client.files, OPEN_S)
    except Unreachable as error:
        raise _unavailable(url, str(error)) from None
    wanted = needed_files(url, names, file)
    directory = pin_file(short).parent
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".fetch-") as name:
        temporary = Path(name)
        try:
            _download(client, wanted, temporary)
            wanted += needed_shards(url, wanted, lambda index: json.loads((temporary / index).read_text()))
            _download(client, wanted, temporary)
        except Unreachable as error:
            raise _unavailable(url, str(error)) from None
        found = _digest(temporary, wanted)
        if pin is not None and found != pin.sha256:
            raise ValueError(
                f"{url}: its files have the sha256 {found} together, but those used here before have "
                f"{pin.sha256}; to take the new ones, remove {pin_file(short)}"
            )
        cached = build_once(
            f"zoo/{pinned_directory(short, found).name}", lambda target: _move(temporary, wanted, target)
        )
    write_pin(short, Pin(archive=url, sha256=found, version=version))
    log.info("%s: %d files, sha256 of all %s", url, len(wanted), found)
    return cached


def _download(client: _Client, names: list[str], directory: Path) -> None:
    for name in names:
        if not (directory / name).is_file():
            log.info("downloading %s", name)
            client.ask(lambda name=name: client.download(name, directory))  # type: ignore[misc]


def _digest(directory: Path, names: list[str]) -> str:
    lines = (f"{name}\0{file_sha256(directory / name)}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _move(source: Path, names: list[str], target: Path) -> None:
    for name in names:
        shutil.move(source / name, target / Path(name).name)


def _client(hub: str, repo: str, revision: str | None) -> _Client:
    return _huggingface(repo, revision) if hub == "hf" else _modelscope(repo, revision)


def _huggingface(repo: str, revision: str | None) -> _Client:
    hub, errors = (_library(name, "huggingface") for name in ("huggingface_hub", "huggingface_hub.errors"))

    def info() -> Any:
        return hub.HfApi().model_info(repo, revision=revision)

    def download(name: str, directory: Path) -> None:
        hub.hf_hub_download(repo, name, revision=revision, local_dir=directory)

    return _Client(
        files=lambda: [file.rfilename for file in info().siblings],
        version=lambda: info().sha,
        download=download,
        errors=_named(errors, "HTTPError", "LocalEntryNotFoundError"),
    )


def _modelscope(repo: str, revision: str | None) -> _Client:
    api, files = (_library(f"modelscope.hub.{part}", "modelscope") for part in ("api", "file_download"))
    errors = _library("modelscope.hub.errors", "modelscope")

    def listing() -> list[tuple[str, Any]]:
        found = api.HubApi().get_model_files(repo, revision=revision or "master", recursive=True)
        return [(file["Path"], file.get("Size")) for file in found if file.get("Type") != "tree"]

    def download(name: str, directory: Path) -> None:
        files.model_file_download(repo, name, revision=revision or "master", local_dir=str(directory))

    return _Client(
        files=lambda: [path for path, _ in listing()],
        version=lambda: hashlib.sha256(json.dumps(sorted(listing())).encode()).hexdigest(),
        download=download,
        errors=_named(
            errors, "HubError", "NotExistError", "RequestError", "FileDownloadError", "InvalidParameter"
        ),
    )


def _named(module: Any, *names: str) -> tuple[type[Exception], ...]:
    """The exceptions under these names; not every version of a client has all."""
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f'the client of this hub is not installed ({error}): pip install "painter[{extra}]", or download '
            "the repository by other means and give its directory"
        ) from None


def _unavailable(url: str, why: str) -> ValueError:
    return ValueError(
        f"{url}: {why}. Where there is a network, download the repository's config and weights, and give the "
        "directory that holds them instead"
    )
