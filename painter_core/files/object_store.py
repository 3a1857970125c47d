"""An object store through fsspec, with bounded retries: a request may fail and the next one succeed."""

import errno
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from fsspec.spec import AbstractFileSystem

log = logging.getLogger(__name__)

TRIES = 6
FIRST_WAIT_S = 0.2  # doubled after every try: 6 s in all, beside what the store's own client waits

_REQUESTS = frozenset(
    {"info", "ls", "find", "glob", "cat_file", "pipe_file", "cp_file", "get_file", "put_file"}
)
_BUSY = (429, 500, 502, 503, 504)  # HTTP
# an OSError without a number is what clients make of an answer that they do not know
_TRANSIENT = (None, errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT)
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)

Result = TypeVar("Result")


def retried(call: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Makes a call, and repeats it after an error that may pass, at most TRIES times in all.

    Raises:
        Exception: the call's own, the last one if all tries fail.
    """
    for number in range(1, TRIES + 1):
        try:
            return call(*args, **options)
        except Exception as error:
            # every client has errors of its own, so what counts is what they say
            if number == TRIES or not is_transient(error):
                raise
            log.info("object store: %s: %s; try %d of %d", type(error).__name__, error, number + 1, TRIES)
            time.sleep(FIRST_WAIT_S * 2 ** (number - 1))
    raise AssertionError


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a moment later."""
    for name in ("status", "code"):  # as aiohttp's errors have it, and gcsfs'
        if str(getattr(error, name, "")).isdigit():
            return int(getattr(error, name)) in _BUSY
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and not isinstance(error, _FINAL) and error.errno in _TRANSIENT


class ObjectStore:
    """A file system of fsspec: requests are retried, and an error is never taken for "no such file"."""

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._fs, name)
        return partial(retried, value) if name in _REQUESTS else value

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Opens a file; its reads are retried too."""
        file = retried(self._fs.open, path, mode, **options)
        cache = getattr(file, "cache", None)
        if cache is not None and "r" in mode:
            cache.fetcher = partial(retried, cache.fetcher)
        return file

    def exists(self, path: str) -> bool:
        """Whether there is an object or a prefix; fsspec's own answers "no" to every error."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        """Whether there is an object."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        """Whether there is a prefix."""
        return self._type(path) == "directory"

    def _type(self, path: str) -> str | None:
        try:
            return retried(self._fs.info, path)["type"]
        except FileNotFoundError:
            return None

    def rm(self, path: str, recursive: bool = False) -> None:
        """Removes a path; one that is gone is fine, since a try that failed may have removed it."""
        try:
            retried(self._fs.rm, path, recursive=recursive)
        except FileNotFoundError:
            return
