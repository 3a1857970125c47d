"""An object store through fsspec, with bounded retries: a request may fail and the next one succeed."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from fsspec.spec import AbstractFileSystem

from painter_core.files.store_errors import as_store_error, describe, is_transient

log = logging.getLogger(__name__)

TRIES = 14
FEW_TRIES = 6
FEW_S = 8.0  # after which few tries are over: the store's own client may spend ten seconds on each
FIRST_WAIT_S = 0.2  # doubled after every try up to LONGEST_WAIT_S: 83 s in all, 6 s for few tries, beside
LONGEST_WAIT_S = 10.0  # what the store's own client waits

_REQUESTS = frozenset(
    {"info", "ls", "find", "glob", "size", "cat_file", "pipe_file", "cp_file", "get_file", "put_file"}
)
_tries: ContextVar[int] = ContextVar("tries", default=TRIES)

Result = TypeVar("Result")


@contextmanager
def few_tries() -> Iterator[None]:
    """While nothing is lost by giving up: requests of this thread are tried for seconds, not for a minute."""
    before = _tries.set(FEW_TRIES)
    try:
        yield
    finally:
        _tries.reset(before)


def retried(call: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Makes a call, and repeats it after an error that may pass, at most TRIES times in all.

    Raises:
        StoreError: the store refuses, or is out of reach in all tries.
        Exception: the call's own.
    """
    most, began = _tries.get(), time.monotonic()
    for number in range(1, most + 1):
        try:
            return call(*args, **options)
        except Exception as error:
            # every client has errors of its own, so what counts is what they say
            is_over = number == most or (most == FEW_TRIES and time.monotonic() - began > FEW_S)
            if is_over or not is_transient(error):
                found = as_store_error(error)
                if found is error:
                    raise
                raise found from error
            log.info("object store: %s; try %d of %d", describe(error), number + 1, most)
            time.sleep(min(FIRST_WAIT_S * 2 ** (number - 1), LONGEST_WAIT_S))
    raise AssertionError


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
