"""What --source names -> rows: which files there are, and how each kind is read."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from painter_core.files.storage import filesystem, is_local, join, redact
from painter_core.stages.make_table.chinese_clip import PICTURES, TEXTS, lmdb_pairs, tsv_pairs
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.lines import csv_records, json_records
from painter_core.stages.make_table.parquet import parquet_records
from painter_core.stages.make_table.records import Keys, rows_of
from painter_core.stages.make_table.row import Row
from painter_core.stages.make_table.template import CaptionTemplate
from painter_core.stages.make_table.webdataset import tar_records
from painter_core.tables.listing import Entry, entries_in, entry_of, glob, has_magic, is_hidden, walk

log = logging.getLogger(__name__)

SUFFIXES = {".tar": "tar", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}
Kind = Literal["tar", "json", "csv", "parquet", "texts", "lmdb"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Something that rows are read from."""

    url: str
    kind: str


def source_rows(config: MakeTableConfig) -> Iterator[Row]:
    """The rows of --source; its files are found before the first one comes.

    Raises:
        ValueError: there is nothing, or something that cannot be read; names it.
    """
    try:
        found = find_sources(config)
    except OSError as error:
        raise ValueError(f"--source {redact(config.source or '')}: cannot be read: {error}") from None
    return _rows(config, found)


def _rows(config: MakeTableConfig, found: list[Source]) -> Iterator[Row]:
    template = config.caption_column_template
    keys = Keys(
        idx=config.idx_column,
        text=config.first_sequence,
        image=config.second_sequence,
        template=CaptionTemplate.parse(template) if template is not None else None,
    )
    rows_in = 0
    for source in found:
        folder = config.pictures or source.url.rpartition("/")[0] or "."
        count = 0
        for place, record in _records(source, config, keys):
            count += 1
            if place.error:
                yield place
            else:
                yield from rows_of(place, record, keys, folder)
        log.info("%s: %s records", redact(source.url), f"{count:,}")
        rows_in += count
    if not rows_in:
        raise ValueError(f"--source {redact(config.source or '')}: no rows")


def _records(source: Source, config: MakeTableConfig, keys: Keys) -> Iterator[tuple[Row, dict[str, Any]]]:
    if source.kind == "tar":
        return tar_records(source.url, config.encoding, keys)
    if source.kind == "json":
        return json_records(source.url, config.encoding)
    if source.kind == "csv":
        return csv_records(source.url, config.encoding, keys)
    if source.kind == "parquet":
        return parquet_records(source.url, keys)
    if source.kind == "texts":
        return tsv_pairs(source.url, config.encoding)
    return lmdb_pairs(source.url)


def find_sources(config: MakeTableConfig) -> list[Source]:
    """Files, directories and patterns of --source, with commas between, in a fixed order.

    Raises:
        ValueError: nothing is there, or not of one kind, or named twice.
        OSError: something cannot be listed.
    """
    found: list[Source] = []
    named: set[str] = set()
    for name in (part.strip() for part in (config.source or "").split(",")):
        if not name:
            raise ValueError(f"--source: an empty name in {redact(config.source or '')!r}")
        for entry, source in _named(name, config.outputs):
            if entry.same in named:
                raise ValueError(
                    f"--source: {redact(source.url)} is named twice; its rows would be done twice"
                )
            named.add(entry.same)
            found.append(source)
    return found


def _named(name: str, outputs: str) -> list[tuple[Entry, Source]]:
    fs, path = filesystem(name)
    passed: Counter[str] = Counter()
    entry = entry_of(fs, path)
    if entry is not None and entry.kind == "directory":
        inside = {one.name for one in entries_in(fs, entry)}
        if {"imgs", "pairs"} <= inside and is_local(name):
            return [(entry, Source(url=path, kind="lmdb"))]

        def select(_: Entry, entries: list[Entry]) -> Iterator[Entry]:
            return (one for one in entries if not is_hidden(one.name))

        entries = walk(fs, entry, select, passed)
    elif entry is not None:
        entries = [entry]
    elif has_magic(path):
        entries = [one for one in glob(fs, path, passed) if one.kind == "file"]
    else:
        raise ValueError(f"--source {redact(name)}: no such file or directory")
    scheme = "" if is_local(name) else name[: name.index("://") + 3]
    return _sources(name, [(one, scheme + one.path) for one in entries], filesystem(outputs)[1])


def _sources(name: str, files: list[tuple[Entry, str]], outputs: str) -> list[tuple[Entry, Source]]:
    """Those of the files that are read; others are counted in the log."""
    urls = {url for _, url in files}
    found, passed = list[tuple[Entry, Source]](), Counter[str]()
    for entry, url in sorted(files, key=lambda file: file[1].split("/")):
        suffix = PurePosixPath(url).suffix.lower()
        kind = SUFFIXES.get(suffix, "")
        if url.endswith(TEXTS) and _is_file(url.removesuffix(TEXTS) + PICTURES):
            kind = "texts"
        if entry.path == outputs:
            passed["of --outputs"] += 1
        elif kind and entry.kind == "file":
            found.append((entry, Source(url=url, kind=kind)))
        elif not (url.endswith(PICTURES) and url.removesuffix(PICTURES) + TEXTS in urls):
            passed[f"*{suffix}" if suffix else "without a suffix"] += 1
    kinds = sorted({source.kind for _, source in found})
    suffixes = [PurePosixPath(source.url).suffix for _, source in found]
    if not found:
        raise ValueError(
            f"--source {redact(name)}: nothing there to read ({_counts(passed) or 'no files'}); expected "
            f"{', '.join(SUFFIXES)}, *{TEXTS} beside *{PICTURES}, or an LMDB of Chinese-CLIP (imgs, pairs). "
            "A folder of pictures goes to --pictures, a .tar.gz has to be unpacked to a .tar"
        )
    if len(kinds) > 1:
        raise ValueError(
            f"--source {redact(name)}: several kinds of files ({', '.join(kinds)}), whose rows may be the "
            f"same; name those to be read, for instance {join(redact(name), '*' + suffixes[0])}"
        )
    if empty := [source.url for entry, source in found if entry.kind == "file" and not entry.size_bytes]:
        raise ValueError(f"{redact(empty[0])}: the file is empty (0 bytes); remove it or fetch it again")
    if passed:
        log.info("--source %s: passed over: %s", redact(name), _counts(passed))
    return found


def _is_file(url: str) -> bool:
    fs, path = filesystem(url)
    return bool(fs.isfile(path))


def _counts(passed: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in passed.most_common())
