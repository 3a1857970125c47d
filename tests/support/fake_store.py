"""An object store for tests, s3://: no rename, objects visible when they are closed, requests that fail.

It keeps listings as the real clients do, so that one that is taken from memory shows as a missing object;
and it raises what s3fs raises, which hands on most of botocore's errors as they are.
"""

import errno
import io
import random
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem


def botocore_error(name: str, base: str, text: str) -> Exception:
    """An error of a client's own class, which is no OSError."""
    package = {"__module__": "botocore.exceptions"}
    kind: Any = type(base, (type("BotoCoreError", (Exception,), package),), package)
    return type(name, (kind,), package)(text)


def answered(status: int, code: str, made: Exception) -> Exception:
    """What s3fs makes of an answer of the store: an OSError, and what it was made of."""
    cause: Any = type("ClientError", (Exception,), {"__module__": "botocore.exceptions"})(code)
    cause.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    made.__cause__ = cause
    return made


FAULTS = (  # that pass
    lambda: answered(503, "SlowDown", OSError(errno.EBUSY, "Please reduce your request rate.")),
    lambda: botocore_error("ConnectionClosedError", "HTTPClientError", "Connection was closed"),
    lambda: answered(500, "InternalError", OSError(errno.EREMOTEIO, "We encountered an internal error.")),
    lambda: botocore_error("ReadTimeoutError", "HTTPClientError", "Read timeout on endpoint URL"),
)


def no_store() -> Exception:
    """What a request meets where nothing listens."""
    return botocore_error(
        "EndpointConnectionError", "ConnectionError", "Could not connect to the endpoint URL"
    )


class FakeStore(MemoryFileSystem):
    """In memory; `failing` is the share of requests that fail, `away` the number of the next ones that find
    no store, `no_credentials` whether the client has none."""

    protocol = ("s3",)
    store: dict[str, Any] = {}  # noqa: RUF012  the base's own, apart
    pseudo_dirs = [""]  # noqa: RUF012
    failing = 0.0
    away = 0
    no_credentials = False
    denied: tuple[str, ...] = ()
    requests = 0
    failed = 0
    dice = random.Random(0)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("s3://").strip("/")

    def _request(self, path: str) -> None:
        cls = type(self)
        cls.requests += 1
        if path.endswith(self.denied) and self.denied:
            raise answered(403, "AccessDenied", PermissionError("None"))  # as Ceph's answers come out
        if cls.no_credentials:
            raise botocore_error("NoCredentialsError", "BotoCoreError", "Unable to locate credentials")
        if cls.away:
            cls.away -= 1
            raise no_store()
        if cls.dice.random() < cls.failing:
            cls.failed += 1
            raise FAULTS[cls.failed % len(FAULTS)]()

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        self._request(path)
        self._ls_from_cache(path)  # FileNotFoundError if a listing that was kept lacks it
        return super().info(path, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        path = self._strip_protocol(path)
        self._request(path)
        found = super().ls(path, detail=True, **options)
        self.dircache[path] = found
        return found if detail else [entry["name"] for entry in found]

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        self._request(path)
        return super().cat_file(path, start, end, **options)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        path = self._strip_protocol(path)
        self._request(path)
        self.store[path] = MemoryFile(self, path, bytes(value))

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        self._request(path1)
        super().cp_file(path1, path2, **options)

    def rm(self, path: Any, recursive: bool = False, maxdepth: Any = None) -> None:
        self._request(str(path))
        super().rm(path, recursive, maxdepth)

    def mv(self, *paths: Any, **options: Any) -> None:
        raise NotImplementedError("an object store has no rename")

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        path = self._strip_protocol(path)
        self._request(path)
        return _Upload(self, path) if "w" in mode else super().open(path, mode, **options)


class _Upload(io.BytesIO):
    def __init__(self, store: FakeStore, path: str) -> None:
        super().__init__()
        self._target = (store, path)

    def close(self) -> None:
        if not self.closed:
            store, path = self._target
            store.pipe_file(path, self.getvalue())
        super().close()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeStore]]:
    """The store, empty and without faults, for s3:// in this process."""
    fsspec.register_implementation("s3", FakeStore, clobber=True)
    FakeStore.clear_instance_cache()
    fresh = {"store": {}, "pseudo_dirs": [""], "failing": 0.0, "away": 0, "requests": 0, "failed": 0}
    for name, value in (fresh | {"no_credentials": False}).items():
        monkeypatch.setattr(FakeStore, name, value)
    monkeypatch.setattr(FakeStore, "dice", random.Random(7))
    for name in ("FIRST_WAIT_S", "LONGEST_WAIT_S"):
        monkeypatch.setattr(f"painter_core.files.object_store.{name}", 0.0001)
    monkeypatch.setattr("painter_core.runs.lock.SETTLE_S", 0.01)
    yield FakeStore
    FakeStore.clear_instance_cache()
