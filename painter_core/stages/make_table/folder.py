"""A folder of pictures with captions -> rows: idx (the file's name in the folder), caption, encoded picture.

What is no picture that a job can read is counted in the log by its suffix.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from painter_core.errors import Reject
from painter_core.files.storage import filesystem
from painter_core.stages.make_table.captions import caption_beside, read_captions
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.row import Row
from painter_core.tables.columns import Encoding
from painter_core.tables.listing import Entry, entry_of, walk
from schemas.pairs import MAX_CELL_BYTES

log = logging.getLogger(__name__)

# of the formats in painter_core.images.decode.FORMATS
PICTURES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".apng",
    ".webp",
    ".gif",
    ".bmp",
    ".dib",
    ".avif",
    ".avifs",
)
# of pictures that no job reads
OTHER_PICTURES = (
    *(".tif", ".tiff", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpx", ".svg"),
    *(
        ".psd",
        ".ico",
        ".icns",
        ".tga",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".eps",
        ".raw",
        ".dng",
        ".cr2",
        ".nef",
    ),
    *(".arw", ".qoi", ".exr", ".hdr", ".dds", ".pcx", ".xbm", ".xpm"),
)
_NOT_LOOKED_INTO = ("__MACOSX", "lost+found")


def folder_rows(config: MakeTableConfig) -> Iterator[Row]:
    """The rows of a folder; captions are looked for before the first one comes.

    Raises:
        ValueError: a picture has no caption, a caption no picture, or a file cannot be read; names it.
    """
    folder = Path(os.path.abspath(config.pictures or ""))
    files = {entry.path: entry.path[len(str(folder)) :].lstrip("/") for entry in _files(folder)}
    pictures = {path: name for path, name in files.items() if path.lower().endswith(PICTURES)}
    captions = None
    used = set(pictures)
    if config.captions:
        captions = read_captions(Path(config.captions), config.encoding)
        used.add(os.path.abspath(config.captions))
        _check_captions(config, captions, set(pictures.values()), set(files.values()))
    else:
        beside = {path: str(Path(path).with_suffix(".txt")) for path in pictures}
        for path, caption in beside.items():
            if caption not in files:
                raise ValueError(
                    f"{path}: no caption; write it to {Path(caption).name} beside it, or give --captions FILE"
                )
        used.update(beside.values())
    _log_passed(folder, len(pictures), [path for path in files if path not in used])
    if not pictures:
        raise ValueError(f"--pictures {folder}: no pictures there ({', '.join(PICTURES)})")
    return _rows(pictures, captions, config.encoding)


def _rows(pictures: dict[str, str], captions: dict[str, str] | None, encoding: Encoding) -> Iterator[Row]:
    for number, (path, name) in enumerate(pictures.items(), 1):
        text = captions[name] if captions is not None else caption_beside(Path(path), encoding)
        row = Row(file=path, number=number, idx=name, text=text)
        try:
            size = os.stat(path).st_size
            if size > MAX_CELL_BYTES:
                what = f"{size:,} bytes, at most {MAX_CELL_BYTES:,}"
                yield row.rejected(Reject("cell_too_large", what))
            else:
                yield replace(row, image=Path(path).read_bytes())
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error}") from None


def _files(folder: Path) -> list[Entry]:
    """All files of a folder, in order; those with hidden names are counted in the log."""
    fs, path = filesystem(str(folder))
    passed: Counter[str] = Counter()

    def select(directory: Entry, entries: list[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _NOT_LOOKED_INTO:
                passed["hidden"] += 1
            elif entry.kind == "dead link" and _may_matter(entry):
                raise ValueError(f"{entry.path}: a link to nothing; mend it or remove it")
            elif entry.kind in ("dead link", "other"):
                passed["no regular file"] += 1
            else:
                yield entry

    try:
        root = entry_of(fs, path)
        if root is None or root.kind != "directory":
            raise ValueError(f"--pictures {folder}: no such folder")
        found = walk(fs, root, select, passed)
    except OSError as error:
        raise ValueError(f"--pictures {folder}: cannot be read: {error}") from None
    for entry in found:
        try:
            entry.path.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{entry.path!r}: the file name is not UTF-8; rename it") from None
    if passed:
        log.info("%s: passed over: %s", folder, _counts(passed))
    return sorted(found, key=lambda entry: entry.path.split("/"))


def _may_matter(entry: Entry) -> bool:
    """Whether a link that leads nowhere may have been a picture, a caption, or a directory of them."""
    suffix = Path(entry.name).suffix.lower()
    return suffix in (*PICTURES, ".txt", "")


def _check_captions(
    config: MakeTableConfig, captions: dict[str, str], pictures: set[str], files: set[str]
) -> None:
    """Raises ValueError unless each picture has a caption and each caption a picture."""
    if missing := sorted(pictures - set(captions)):
        raise ValueError(
            f"{config.captions} has no caption for {missing[0]!r} and {len(missing) - 1} other pictures in "
            f"{config.pictures}"
        )
    if unused := sorted(set(captions) - pictures):
        other = f", which is no {'/'.join(s[1:] for s in PICTURES)}: convert it" if unused[0] in files else ""
        raise ValueError(
            f"{config.captions}: {len(unused)} captions have no picture in {config.pictures}, the first is "
            f"{unused[0]!r}{other}"
        )


def _log_passed(folder: Path, num_pictures: int, paths: list[str]) -> None:
    passed = Counter(f"*{Path(path).suffix}" if Path(path).suffix else "without a suffix" for path in paths)
    if passed:
        log.info("%s: %d pictures; passed over: %s", folder, num_pictures, _counts(passed))
    if others := [path for path in paths if path.lower().endswith(OTHER_PICTURES)]:
        log.warning(
            "%s: %d pictures in formats that no job reads were passed over, the first is %s; convert them to "
            "JPEG or PNG and make the table again",
            folder,
            len(others),
            others[0],
        )
    if captions := [path for path in paths if path.lower().endswith(".txt")]:
        log.info("%s: %d .txt files have no picture, the first is %s", folder, len(captions), captions[0])


def _counts(passed: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in passed.most_common() if count)
