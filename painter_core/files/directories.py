"""Small directories by path or URL, for code that reads and writes local files."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from painter_core.files.storage import filesystem, is_local, join


@contextmanager
def local_directory(url: str) -> Iterator[Path]:
    """A local directory to be filled, the one of a path itself; what is in it after the block goes to a URL,
    a file at a time."""
    if is_local(url):
        directory = Path(filesystem(url)[1])
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
        for file in sorted(p for p in Path(name).rglob("*") if p.is_file()):
            fs, path = filesystem(join(url, str(file.relative_to(name))))
            fs.put_file(str(file), path)


@contextmanager
def local_copy(url: str) -> Iterator[Path]:
    """The directory of a path itself; a copy of a URL's, removed after the block."""
    fs, path = filesystem(url)
    if is_local(url):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as name:
        for file in fs.find(path):
            target = Path(name) / file[len(path) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(file, str(target))
        yield Path(name)
