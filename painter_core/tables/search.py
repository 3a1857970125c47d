"""What an entry of --tables finds: a file, a directory's tables, the matches of a pattern.

Everything that is met is taken, refused, or counted in the log with the reason.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from painter_core.files.storage import filesystem, is_local, join, redact
from painter_core.tables.directories import (
    is_table,
    other_run,
    refuse_below_other_tables,
    refuse_other_tables,
)
from painter_core.tables.listing import (
    HIDDEN,
    THREADS,
    Entry,
    each_once,
    entries_in,
    entry_of,
    glob,
    has_magic,
    is_hidden,
    split_pattern,
    walk,
)
from painter_core.tables.records import read_manifest
from painter_core.tables.run_directory import SINGLE_FILE, RunDirectory

log = logging.getLogger(__name__)

SUFFIXES = (".parquet", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
OWN_OUTPUT = "of this job's own --outputs"
RUN_BESIDE = "run directory of a file that is read"
BESIDE_FILES = "directories beside files that match"
NOT_A_PART = "not in a table's manifest.json"


@dataclass(frozen=True)
class Found:
    """A file that is to be read."""

    entry: Entry
    url: str
    sha256: str = ""
    """For a part of a table in our format."""


def search(name: str, outputs: str) -> list[Found]:
    """The files behind one entry of --tables, each once; what is passed over is counted in the log.

    Args:
        name: a path or URL of a file or directory, or a pattern.
        outputs: where the job writes; empty for one that writes no table.

    Raises:
        ValueError: nothing is there, or it may not be read.
        OSError: something cannot be listed.
    """
    return _Search(name, outputs).run()


class _Search:
    def __init__(self, name: str, outputs: str) -> None:
        self._name, self._outputs = name, outputs
        self._fs, self._path = filesystem(name)
        self._own = _places(outputs)
        self._passed: Counter[str] = Counter()

    def run(self) -> list[Found]:
        entry = entry_of(self._fs, self._path)
        if entry is None:
            found = self._matches() if has_magic(self._path) else []
        elif entry.kind == "dead link":
            raise ValueError(f"--tables: {redact(self._name)}: a link to nothing")
        elif self._is_own(entry):
            raise ValueError(
                f"--tables {redact(self._name)} lies in --outputs {redact(self._outputs)}: a job does not "
                "read what it writes; name another --outputs"
            )
        elif entry.kind == "directory":
            found = self._in_directory(entry)
        else:
            found = [Found(entry, self._url(entry))] if entry.kind == "file" else []
        passed = ", ".join(f"{count:,} {what}" for what, count in self._passed.most_common() if count)
        if not found:
            raise ValueError(
                f"--tables: {redact(self._name)}: no such file, and no table files ({', '.join(SUFFIXES)}) "
                f"there{f'; passed over: {passed}' if passed else ''}"
            )
        if passed:
            log.info("%s: %d files; passed over: %s", redact(self._name), len(found), passed)
        return self._as_requested(found)

    def _as_requested(self, found: list[Found]) -> list[Found]:
        """A store's listing may say something else of a file than a request for it, such as workers make."""
        first = found[0].entry
        if is_local(self._name) or entry_of(self._fs, first.path) == first:
            return found
        with ThreadPoolExecutor(THREADS) as pool:
            entries = pool.map(partial(entry_of, self._fs), [f.entry.path for f in found])
        return [Found(e or f.entry, f.url, f.sha256) for e, f in zip(entries, found, strict=True)]

    def _url(self, entry: Entry) -> str:
        return entry.path if is_local(self._name) else self._fs.unstrip_protocol(entry.path)

    def _is_own(self, entry: Entry) -> bool:
        """Whether something stands where the job writes."""
        return any(entry.real == own or entry.real.startswith(own + "/") for own in self._own)

    # --- directories --------------------------------------------------------------------------------

    def _in_directory(self, root: Entry) -> list[Found]:
        tables: list[Entry] = []
        files = walk(self._fs, root, partial(self._select, root, tables), self._passed)
        found = [Found(entry, self._url(entry)) for entry in each_once(files, self._passed)]
        for table in sorted(tables, key=lambda table: table.path):
            found += self._parts(table)
        return found

    def _select(self, root: Entry, tables: list[Entry], here: Entry, entries: list[Entry]) -> Iterator[Entry]:
        """The files of a directory that are tables, and the directories that may hold some."""
        names = {entry.name for entry in entries}
        if here is root:
            refuse_below_other_tables(self._fs, here.path)
        if what := other_run(self._fs, here, names):
            if here is root and "manifest.json" not in names:
                raise ValueError(f"--tables {redact(self._name)}: {what}")
            if here is not root:
                self._passed[what] += 1
                return
        if is_table(self._fs, here, names):
            tables.append(here)
            return
        refuse_other_tables(self._fs, here, entries)
        for entry in entries:
            single = entry.path.removesuffix(".run")
            if self._is_own(entry):
                self._passed[OWN_OUTPUT] += 1
            elif is_hidden(entry.name):
                self._passed[HIDDEN] += 1
            elif entry.kind == "directory" and single.endswith(SINGLE_FILE) and _base(single) in names:
                read_manifest(self._url(entry))  # or the file beside it is not what it should be
                self._passed[RUN_BESIDE] += 1
            elif entry.kind == "directory" or self._is_table_file(entry):
                yield entry

    def _is_table_file(self, entry: Entry) -> bool:
        """Whether a file has a table's suffix; others are counted.

        Raises:
            ValueError: it has, and is no file that can be read; or it may have been a directory of tables.
        """
        suffix = PurePosixPath(entry.name).suffix
        missing = entry.kind == "dead link" and not suffix
        if not missing and not entry.name.lower().endswith(SUFFIXES):
            self._passed[f"*{suffix}" if suffix else "without a suffix"] += 1
            return False
        return _is_file(entry)

    def _parts(self, table: Entry) -> list[Found]:
        """The parts of a finished table in our format, their sizes compared with its manifest."""
        url = self._url(table)
        there = {entry.name: entry for entry in entries_in(self._fs, table)}
        found = []
        for part in read_manifest(url)["parts"]:
            entry, path = there.get(part["name"]), join(url, part["name"])
            if entry is None:
                raise ValueError(f"{redact(path)}: cannot be read: missing, though manifest.json names it")
            if entry.size_bytes != part["bytes"]:
                raise ValueError(
                    f"{redact(path)}: {entry.size_bytes:,} bytes, but manifest.json says {part['bytes']:,}: "
                    "the part was changed or damaged"
                )
            found.append(Found(entry, path, part["sha256"]))
        return found

    # --- patterns -----------------------------------------------------------------------------------

    def _matches(self) -> list[Found]:
        found = []
        for entry in glob(self._fs, self._path, self._passed):
            if self._is_own(entry):
                self._passed[OWN_OUTPUT] += 1
            else:
                found.append(entry)
        is_file = self._is_table_file if self._path.endswith("*") else _is_file
        files = [e for e in found if e.kind != "directory" and is_file(e)]
        directories = [e for e in found if e.kind == "directory"]
        if not files:
            each = [f for directory in directories for f in self._in_directory(directory)]
            once = {id(e) for e in each_once([f.entry for f in each], self._passed)}
            return [f for f in each if id(f.entry) in once]
        self._passed[BESIDE_FILES] += len(directories)
        parts = self._parts_there({_above(entry.path) for entry in files})
        taken = [e for e in files if e.name in parts.get(_above(e.path), {e.name})]
        self._passed[NOT_A_PART] += len(files) - len(taken)
        return [Found(entry, self._url(entry)) for entry in taken]

    def _parts_there(self, directories: set[str]) -> dict[str, set[str]]:
        """Names of the parts of those directories with matching files that are tables in our format.

        Raises:
            ValueError: one is not finished, or lies in a table of another tool.
        """
        top, _ = split_pattern(self._path)
        refuse_below_other_tables(self._fs, top)
        parts = {}
        for path in sorted({above for directory in directories for above in _between(top, directory)}):
            if (directory := entry_of(self._fs, path)) is not None:
                entries = entries_in(self._fs, directory)
                refuse_other_tables(self._fs, directory, entries)
                if path in directories and is_table(self._fs, directory, {e.name for e in entries}):
                    manifest = read_manifest(self._url(directory))
                    parts[path] = {part["name"] for part in manifest["parts"]}
        return parts


def _places(outputs: str) -> tuple[str, ...]:
    """Where a job writes, links followed: its output, the run directory, the one beside it, the lock."""
    if not outputs:
        return ()
    directories = (RunDirectory(outputs).url, RunDirectory(outputs, beside=True).url)
    return tuple(_real(url) for url in (outputs.rstrip("/"), *directories, outputs.rstrip("/") + ".lock"))


def lies_in(url: str, directory: str) -> bool:
    """Whether a place is a directory or stands in it, links followed; neither need exist."""
    return is_local(url) == is_local(directory) and f"{_real(url)}/".startswith(f"{_real(directory)}/")


def _real(url: str) -> str:
    path = filesystem(url)[1]
    return os.path.realpath(path) if is_local(url) else path.rstrip("/")


def _is_file(entry: Entry) -> bool:
    """True, or ValueError with what it is instead."""
    if entry.kind != "file":
        what = "a link to nothing" if entry.kind == "dead link" else "no regular file"
        raise ValueError(f"{redact(entry.path)}: {what}; mend it or remove it")
    return True


def _between(top: str, directory: str) -> Iterator[str]:
    """A directory, and those between it and `top` that it lies in."""
    while len(directory) > len(top):
        yield directory
        directory = _above(directory)
    yield top


def _above(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _base(path: str) -> str:
    return path.rpartition("/")[2]
