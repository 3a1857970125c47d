"""What stands in a directory, on a disk or in an object store: each file once, whatever its names.

Links are followed, and a directory is entered once, so that a link to a parent ends. What cannot be listed is
an OSError: a directory that is left out would be rows that are left out.
"""

import errno
import fnmatch
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from fsspec.spec import AbstractFileSystem

from painter_core.files.object_store import ObjectStore
from painter_core.files.storage import join

SAME = "the same by another name"
THREADS = 16  # a store answers one request in some 50 ms
MAGIC = "*?["


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a directory."""

    path: str
    kind: Literal["file", "directory", "dead link", "other"]
    size_bytes: int = 0
    version: str = ""
    """ETag or modification time, of a link's target."""
    real: str = ""
    """Where it stands, links followed."""
    same: str = ""
    """Equal for two names of one file, hard links too."""
    linked: bool = False
    """Whether a link leads here, from where the listing began."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


def entry_of(fs: AbstractFileSystem, path: str) -> Entry | None:
    """A file or directory by its path; None if there is none. OSError if that cannot be known."""
    try:
        if isinstance(fs, ObjectStore):
            return _of_store(fs.info(path))
        return _of_disk(path, os.stat(path), os.path.realpath(path), linked=False)
    except (FileNotFoundError, NotADirectoryError):
        dead = not isinstance(fs, ObjectStore) and os.path.islink(path)
        return Entry(path=path, kind="dead link", same=path) if dead else None


def entries_in(fs: AbstractFileSystem, directory: Entry) -> list[Entry]:
    """What stands in a directory, by name, links last."""
    if isinstance(fs, ObjectStore):
        found = [_of_store(info) for info in fs.ls(directory.path, detail=True)]
        # the mark that some tools leave for a directory bears its own name
        entries = [entry for entry in found if entry.path != directory.path.rstrip("/")]
    else:
        with os.scandir(directory.path) as scan:
            entries = [entry for item in scan if (entry := _scanned(directory, item))]
    return sorted(entries, key=lambda entry: (entry.linked, entry.path))


def _scanned(directory: Entry, item: os.DirEntry[str]) -> Entry | None:
    """What a name in a directory stands for; None if it is gone meanwhile."""
    path, is_link = join(directory.path, item.name), item.is_symlink()
    try:
        found = item.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return Entry(path=path, kind="dead link", same=path, linked=True) if is_link else None
    real = os.path.realpath(path) if is_link else join(directory.real, item.name)
    return _of_disk(path, found, real, linked=is_link or directory.linked)


def _of_disk(path: str, found: os.stat_result, real: str, *, linked: bool) -> Entry:
    if stat.S_ISDIR(found.st_mode):
        return Entry(path=path, kind="directory", real=real, same=real, linked=linked)
    same = f"inode {found.st_dev}:{found.st_ino}" if found.st_nlink > 1 else real
    kind: Literal["file", "other"] = "file" if stat.S_ISREG(found.st_mode) else "other"
    return Entry(path, kind, found.st_size, str(found.st_mtime), real, same, linked)


def _of_store(info: dict[str, Any]) -> Entry:
    path = info["name"].rstrip("/")
    if info["type"] == "directory" or info["name"].endswith("/"):
        return Entry(path=path, kind="directory", real=path, same=path)
    known = ("ETag", "etag", "mtime", "LastModified", "updated", "created")
    version = next((str(info[key]) for key in known if info.get(key)), "")
    kind: Literal["file", "other"] = "file" if info["type"] == "file" else "other"
    return Entry(path, kind, info["size"] or 0, version, path, path)


def walk(
    fs: AbstractFileSystem,
    root: Entry,
    select: Callable[[Entry, list[Entry]], Iterable[Entry]],
    passed: Counter[str],
) -> list[Entry]:
    """The files below a directory; one with several names several times.

    Args:
        root: the directory.
        select: of a directory and what stands in it: files to take and directories to enter.
        passed: counts second names of directories.

    Raises:
        OSError: a directory cannot be listed.
    """
    files: list[Entry] = []
    entered: set[str] = set()
    level, linked = [root], list[Entry]()
    with ThreadPoolExecutor(THREADS) as pool:
        while level or linked:
            if not level:  # last, so that what has a plain name too is taken by that
                level, linked = sorted(linked, key=lambda entry: entry.path), []
            new = []
            for directory in sorted(level, key=lambda entry: entry.path):
                if directory.real in entered:
                    passed[SAME] += 1
                else:
                    entered.add(directory.real)
                    new.append(directory)
            level = []
            for directory, entries in zip(new, pool.map(partial(entries_in, fs), new), strict=True):
                for entry in select(directory, entries):
                    if entry.kind == "directory":
                        (linked if entry.linked and not directory.linked else level).append(entry)
                    else:
                        files.append(entry)
    return files


def glob(fs: AbstractFileSystem, pattern: str, passed: Counter[str]) -> list[Entry]:
    """What a pattern with `*`, `?`, `[...]` and `**` matches, by path; each file once.

    A name that starts with `_` or `.` is matched only by a pattern that does too.

    Args:
        passed: counts what is hidden or a second name.

    Raises:
        OSError: a directory that the pattern leads through cannot be listed.
    """
    top, parts = split_pattern(pattern)
    base = entry_of(fs, top)
    found = [base] if base else []
    with ThreadPoolExecutor(THREADS) as pool:
        for number, part in enumerate(parts, 1):
            # each once, or links to parents would double them at every level
            directories = each_once((e for e in found if e.kind == "directory"), Counter())
            if part == "**":
                with_files = number == len(parts)
                found = [e for d in directories for e in _below(fs, d, passed, with_files=with_files)]
            elif has_magic(part):
                entries = [e for some in pool.map(partial(entries_in, fs), directories) for e in some]
                found = [e for e in entries if fnmatch.fnmatchcase(e.name, part)]
                shown = [e for e in found if not is_hidden(e.name) or is_hidden(part)]
                passed[HIDDEN] += len(found) - len(shown)
                found = shown
            else:
                paths = [join(directory.path, part) for directory in directories]
                found = [entry for entry in pool.map(partial(entry_of, fs), paths) if entry]
    return each_once(found, passed)


def _below(
    fs: AbstractFileSystem, directory: Entry, passed: Counter[str], *, with_files: bool
) -> list[Entry]:
    """A directory and all directories in it, but for hidden ones and those inside one of our tables."""
    directories: list[Entry] = []

    def select(here: Entry, entries: list[Entry]) -> Iterable[Entry]:
        directories.append(here)
        ours = any(entry.name == "_run" for entry in entries)
        for entry in entries:
            wanted = not ours if entry.kind == "directory" else with_files
            if wanted and is_hidden(entry.name):
                passed[HIDDEN] += 1
            elif wanted:
                yield entry

    return [*walk(fs, directory, select, passed), *directories]


def each_once(entries: Iterable[Entry], passed: Counter[str]) -> list[Entry]:
    """Entries by path, of several names of one the first that no link leads to."""
    found: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.linked, entry.path)):
        if found.setdefault(entry.same, entry) is not entry:
            passed[SAME] += 1
    return sorted(found.values(), key=lambda entry: entry.path)


HIDDEN = "hidden (their names start with _ or .)"


def is_hidden(name: str) -> bool:
    """Whether a name is of something that is no data, by its first character; or a disk's lost+found."""
    return name.startswith(("_", ".")) or name == "lost+found"


def split_pattern(pattern: str) -> tuple[str, list[str]]:
    """The directory down to which a pattern's names are plain, and the names from there on."""
    parts = pattern.split("/")
    first = next((i for i, part in enumerate(parts) if has_magic(part)), len(parts))
    return "/".join(parts[:first]) or "/", parts[first:]


def has_magic(path: str) -> bool:
    """Whether it may be a pattern."""
    return any(character in path for character in MAGIC)
