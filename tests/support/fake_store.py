"""An object store for tests, s3://: no rename, objects visible when they are closed, requests that fail.

It keeps listings as the real clients do, so that one that is taken from memory shows as a missing object.
"""

import io
import random
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem


class FakeStore(MemoryFileSystem):
    """In memory; `failing` is the share of requests that are answered with 503."""

    protocol = ("s3",)
    store: dict[str, Any] = {}  # noqa: RUF012  the base's own, apart
    pseudo_dirs = [""]  # noqa: RUF012
    failing = 0.0
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
            raise PermissionError(13, "AccessDenied", path)
        if cls.dice.random() < cls.failing:
            cls.failed += 1
            raise OSError(f"503 SlowDown: {path}")

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
    for name, value in {"store": {}, "pseudo_dirs": [""], "failing": 0.0, "requests": 0, "failed": 0}.items():
        monkeypatch.setattr(FakeStore, name, value)
    monkeypatch.setattr(FakeStore, "dice", random.Random(7))
    monkeypatch.setattr("painter_core.files.object_store.FIRST_WAIT_S", 0.0001)
    monkeypatch.setattr("painter_core.runs.lock.SETTLE_S", 0.01)
    yield FakeStore
    FakeStore.clear_instance_cache()
