"""Directories that are made once a machine and kept: converted checkpoints, downloads, archives of the zoo.

They stand under PAINTER_CACHE (by default ~/.cache/painter) and are named by what they are made from, so that
an entry is never mistaken for another. An entry is whole or absent, whoever else makes it at the same time.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_root() -> Path:
    """Where caches of this machine go."""
    return Path(os.environ.get("PAINTER_CACHE") or Path.home() / ".cache" / "painter").absolute()


def build_once(name: str, build: Callable[[Path], object]) -> Path:
    """The cache's directory `name`; filled by `build` if it is not there.

    Args:
        name: relative to the cache's root; names the content.
        build: is given an empty directory, which is renamed when it returns. Of two processes that build
            at the same time the second one's work is thrown away.
    """
    final = cache_root() / name
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}-"))
    try:
        build(temporary)
        sync_files(temporary)
        os.rename(temporary, final)
    except OSError:
        if not final.is_dir():  # else another process was first, with the same content
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def sync_files(directory: Path) -> None:
    """Makes sure that all files of a directory are on the disk before it gets its final name."""
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
