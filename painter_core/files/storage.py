"""Files by path or URL, through fsspec: local paths, s3://, gs://, oss:// and the like.

A file under a final name is always whole: locally it is written to a temporary name, synced and renamed; an
object store shows an object only after its single PUT. Requests to an object store are tried again, a bounded
number of times, if the store is busy or out of reach.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.spec import AbstractFileSystem

from painter_core.files.faults import failpoint
from painter_core.files.object_store import ObjectStore

SCHEMES = ("file", "local", "s3", "s3a", "gs", "gcs", "oss", "hdfs", "abfs", "abfss", "az", "memory")
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "oss": "oss"}  # pyproject.toml's

FULL_BYTES = 2**20  # with less free space, a write that fails is taken to fail for it

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)(?:://|::)")
_USER = re.compile(r"(?<=://)(?:[^/@]*|[^@]*:[^@]*)@")  # a secret may hold a slash

_SECRET = re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*@")


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a path or URL, and the path within it.

    Raises:
        ValueError: the scheme is not on the allow-list, or the package for it is not installed.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        # handed over as it is: fsspec would read '#', '?' or '::' in a plain path as syntax
        return fsspec.filesystem("file"), os.path.abspath(os.path.expanduser(url))
    if scheme[1].lower() not in SCHEMES or scheme[0].endswith("::"):
        raise ValueError(
            f"{redact(url)}: scheme {scheme[1]!r} is not accepted; use a path or {', '.join(SCHEMES)}"
        )
    # a listing that is kept would hide what workers write meanwhile
    plain = scheme[0].lower() + url[scheme.end() :]
    try:
        fs, path = fsspec.core.url_to_fs(plain, use_listings_cache=False)
    except ImportError as error:
        extra = EXTRAS.get(scheme[1].lower())
        fix = f"pip install 'painter[{extra}]'" if extra else str(error)
        raise ValueError(
            f"{redact(url)}: a package for {scheme[1]}:// is missing on this node; {fix}"
        ) from None
    return fs if _is_local_fs(fs) else cast(AbstractFileSystem, ObjectStore(fs)), path


def absolute(url: str) -> str:
    """A plain path as an absolute one, which workers with another working directory can use; a URL as it
    is."""
    return url if _SCHEME.match(url) else filesystem(url)[1]


def is_local(url: str) -> bool:
    """Whether the path or URL names this machine's own file system."""
    scheme = _SCHEME.match(url)
    return scheme is None or scheme[1].lower() in ("file", "local")


def redact(url: str) -> str:
    """The URL without user, password and query, for logs and manifests; a plain path as it is."""
    if not _SCHEME.match(url):
        return url
    return re.sub(r"\?[^/]*=.*", "", _USER.sub("", url))


def redact_text(text: str) -> str:
    """A message without the users and passwords of the URLs in it."""
    return _SECRET.sub("", text)


def join(base: str, *parts: str) -> str:
    """Path components joined by slashes."""
    return "/".join([base.rstrip("/"), *parts])


def write_bytes(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """Writes a file so that it is whole or absent under its final name."""
    if not _is_local_fs(fs):
        fs.pipe_file(path, data)
        return
    with _new_local_file(path) as file:
        file.write(data)
        failpoint("storage_write", path=path)
    failpoint("storage_written", path=path)


@contextmanager
def new_file(fs: AbstractFileSystem, path: str) -> Iterator[BinaryIO]:
    """A file to be written piece by piece: whole under its final name after the block, absent if that raises.

    What goes to an object store waits in the directory for temporary files until it is whole.
    """
    if _is_local_fs(fs):
        with _new_local_file(path) as file:
            yield file
        return
    with tempfile.NamedTemporaryFile() as waiting:
        yield cast(BinaryIO, waiting)
        waiting.flush()
        fs.put_file(waiting.name, path)


@contextmanager
def _new_local_file(path: str) -> Iterator[BinaryIO]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # the name starts with a dot, so that no reader takes what a killed writer left behind
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            free = shutil.disk_usage(os.path.dirname(path)).free
            raise OSError(errno.ENOSPC, f"the disk is full ({free:,} bytes free)", path) from error
        raise


@contextmanager
def full_disk_named(directory: Path) -> Iterator[None]:
    """Context for libraries that write to a local directory: what they raise on a full disk becomes an
    OSError that says so. Torch's words for it are "unexpected pos 704 vs 598", safetensors' "os error 28".

    Raises:
        OSError: ENOSPC.
    """
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(directory).free
        is_full = free < FULL_BYTES or f"os error {errno.ENOSPC}" in str(error)
        if isinstance(error, OSError) or not is_full:
            raise
        what = f"the disk is full ({free:,} bytes free)"
        raise OSError(errno.ENOSPC, what, str(directory)) from error


def remove(fs: AbstractFileSystem, path: str) -> None:
    """Removes a file, or a directory with its content; a path that does not exist is fine."""
    if fs.exists(path):
        fs.rm(path, recursive=fs.isdir(path))


def move(fs: AbstractFileSystem, source: str, target: str) -> None:
    """Moves a file or directory to a free path, or a file over a file; cut short, it can be repeated.

    Locally it is one rename. An object store copies first and removes then.
    """
    if _is_local_fs(fs):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(source, target)
        return
    for name in fs.find(source) if fs.isdir(source) else [source]:
        fs.cp_file(name, target + name[len(source) :])
    remove(fs, source)


def write_json(fs: AbstractFileSystem, path: str, value: Any) -> None:
    """Writes JSON with sorted keys, whole or not at all."""
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    # a lone surrogate has no UTF-8; its backslash form means the same in JSON
    write_bytes(fs, path, text.encode("utf-8", "backslashreplace"))


def read_json(fs: AbstractFileSystem, path: str) -> Any:
    """Reads JSON; a damaged file is a ValueError with its name."""
    try:
        return json.loads(fs.cat_file(path))
    except ValueError as error:
        raise ValueError(f"{redact(path)}: not JSON ({error}); it was damaged or is not ours") from None


def sha256(data: bytes | memoryview) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a local file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_local_fs(fs: AbstractFileSystem) -> bool:
    """Whether paths are those of this machine, whose files can be renamed."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
