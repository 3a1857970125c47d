"""An object store for tests that several processes see, s3://: files of $DISK_STORE, but without a rename.

Processes that call use_disk_store() have it, and those that find an entry point of fsspec's
(tests/jobs/test_elastic_training.py makes one).
"""

import os
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class DiskStore(LocalFileSystem):
    """s3://bucket/name is $DISK_STORE/bucket/name."""

    protocol = ("s3",)

    def __init__(self, **options: Any) -> None:
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        path, root = str(path), os.environ["DISK_STORE"]
        if path.startswith("s3://"):
            path = f"{root}/{path.removeprefix('s3://').strip('/')}"
        return path

    def mv(self, *paths: Any, **options: Any) -> None:
        raise NotImplementedError("an object store has no rename")

    mv_file = mv

    def exists(self, path: str, **options: Any) -> bool:
        """Directories are prefixes of objects: empty ones do not exist."""
        inner = self._strip_protocol(path)
        return os.path.isfile(inner) or any(files for _, _, files in os.walk(inner))


def use_disk_store() -> None:
    """From here on s3:// is this store in this process."""
    fsspec.register_implementation("s3", DiskStore, clobber=True)
