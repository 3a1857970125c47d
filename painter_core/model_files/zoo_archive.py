"""A model's archive: brought to this machine, compared with what is known about it, unpacked."""

import logging
import shutil
import tarfile
import time
import zlib
from pathlib import Path

from painter_core.files.https import Unreachable, download
from painter_core.files.storage import file_sha256, filesystem, is_local, redact
from painter_core.model_files.not_weights import check_download
from painter_core.model_files.zoo_pins import version_of
from painter_core.model_files.zoo_places import Archive, check_network, unavailable

log = logging.getLogger(__name__)

KEPT = ("config.json", "pytorch_model.bin", "model.safetensors", "vocab.txt", "tokenizer_config.json",
        "vqgan.safetensors", "gpt.safetensors", "text_head.safetensors", "tokenizer.json",
        "README.md")  # fmt: skip
MAX_BYTES = 64 * 2**30  # limit for an archive, and for what it unpacks to
MAX_MEMBERS = 10_000
PROGRESS_S = 5.0


def local_copy(short: str, archive: Archive, sha: str | None, temporary: Path) -> tuple[Path, str]:
    """The archive as a local file, itself or downloaded into `temporary`, and its version.

    Raises:
        ValueError: it cannot be fetched; the message says which file to put where.
    """
    if is_local(archive.url):
        if not Path(archive.url).is_file():
            raise unavailable(short, f"{archive.url}: no such file")
        return Path(archive.url), version_of(archive.url)
    check_network(short, archive.url, sha)
    file = temporary / "archive.tgz"
    log.info("zoo: %s: downloading %s", short, redact(archive.url))
    try:
        if archive.url.startswith(("http://", "https://")):
            look = _Progress(short, archive.size_bytes)
            return file, download(archive.url, file, look=look, plain=sha is not None)
        fs, path = filesystem(archive.url)
        fs.get_file(path, str(file))
        return file, version_of(archive.url)
    except Unreachable as error:
        raise unavailable(short, f"{redact(archive.url)}: {error}") from None
    except OSError as error:
        raise unavailable(short, f"{redact(archive.url)}: {type(error).__name__}: {error}") from None


class _Progress:
    """A line in the log every few seconds; ends a download that is not what was promised."""

    def __init__(self, name: str, size_bytes: int | None) -> None:
        self._name, self._expected = name, size_bytes
        self._began = self._last = time.monotonic()

    def __call__(self, done: int, size: int | None) -> None:
        if size is not None and (size > MAX_BYTES or self._expected not in (None, size)):
            raise ValueError(
                f"{self._name}: the archive has {size:,} bytes, expected {self._expected or MAX_BYTES:,}"
            )
        if done > MAX_BYTES:
            raise ValueError(f"{self._name}: more than {MAX_BYTES:,} bytes; this is no model")
        now = time.monotonic()
        if now - self._last > PROGRESS_S:
            self._last = now
            total = f" of {size / 1e6:.0f}" if size else ""
            rate = done / 1e6 / (now - self._began)
            log.info("zoo: %s: %.0f%s MB, %.1f MB/s", self._name, done / 1e6, total, rate)


def check_archive(short: str, url: str, file: Path, size_bytes: int | None, sha: str | None) -> str:
    """The archive's sha256; ValueError unless size and sha256 are the expected ones."""
    check_download(file, f"{short}: {redact(url)}")
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


def unpack(file: Path, directory: Path) -> None:
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
