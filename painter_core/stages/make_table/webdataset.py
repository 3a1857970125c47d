"""WebDataset tars -> records: members next to each other whose names are equal up to the first dot are one.

Nothing is unpacked: members are read into memory, at most MAX_CELL_BYTES of each.
"""

import logging
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any, BinaryIO

from painter_core.errors import Reject
from painter_core.files.storage import filesystem, redact
from painter_core.stages.make_table.folder import PICTURES
from painter_core.stages.make_table.lines import HEAD_BYTES, json_object, refuse_foreign
from painter_core.stages.make_table.records import Keys
from painter_core.stages.make_table.row import Row
from painter_core.tables.columns import Encoding
from schemas.pairs import MAX_CELL_BYTES

log = logging.getLogger(__name__)

MOST_AT_ONCE_BYTES = 2**20  # of a header with its extended ones
_CAPTION = "txt"
_HIDDEN = ("__MACOSX/", "PaxHeader/")

Record = dict[str, Any]


def tar_records(url: str, encoding: Encoding, keys: Keys) -> Iterator[tuple[Row, Record]]:
    """The samples of a tar. A record has the picture, and the caption or what the .json says.

    Args:
        encoding: of names and captions.

    Raises:
        ValueError: it is no tar, cut or damaged.
    """
    fs, path = filesystem(url)
    size = fs.info(path)["size"]
    with fs.open(path, "rb") as raw:
        head = raw.read(HEAD_BYTES)
        if head[:2] == b"\x1f\x8b":
            raise ValueError(f"{redact(url)}: compressed by gzip: unpack it (gunzip), the tar stays a tar")
        if head[257:262] != b"ustar":
            refuse_foreign(url, head)
        raw.seek(0)
        members = _members(url, raw, size, encoding)
        for number, (key, group) in enumerate(groupby(members, key=lambda m: _key(m.name)), 1):
            place = Row(file=redact(url), number=number, idx=key)
            try:
                yield place, _Sample(raw, encoding, keys).read(key, group)
            except Reject as error:
                for _ in group:  # what is left of the sample
                    pass
                yield place.rejected(error), {}


def _key(name: str) -> str:
    directory, slash, base = name.removeprefix("./").rpartition("/")
    return directory + slash + base.partition(".")[0]


def _kind(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2].lower()


class _Limited:
    """A file of which tarfile may not read much at once: headers say how long they are."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._furthest = raw, 0
        self.tell = raw.tell

    def seek(self, offset: int) -> int:
        if offset < self._furthest:
            raise tarfile.ReadError("a header that leads backwards")
        self._furthest = offset
        return self._raw.seek(offset)

    def read(self, size: int) -> bytes:
        if size > MOST_AT_ONCE_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._raw.read(size)


def _members(url: str, raw: BinaryIO, size: int, encoding: Encoding) -> Iterator[tarfile.TarInfo]:
    """Files and links of a tar, in order. tarfile itself ends without a word at a damaged header."""
    passed: Counter[str] = Counter()
    try:
        with tarfile.open(fileobj=_Limited(raw), mode="r:", encoding=encoding) as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members.clear()  # it would keep all of them
                if member.size < 0 or (member.offset_data + member.size > size and not member.issparse()):
                    raise tarfile.ReadError(f"{member.name[:80]!r} goes on after the end of the file")
                base = member.name.rpartition("/")[2]
                if base.startswith(".") or member.name.startswith(_HIDDEN):
                    passed["hidden"] += 1
                elif not member.isdir():
                    yield member
            _check_end(url, raw, tar.offset, size)
    except (tarfile.TarError, ArithmeticError, EOFError, LookupError, RecursionError, ValueError) as error:
        raise ValueError(f"{redact(url)}: cut or damaged tar: {error}; fetch or write it again") from None
    if passed:
        log.info("%s: %d hidden members were passed over", redact(url), passed["hidden"])


def _check_end(url: str, raw: BinaryIO, offset: int, size: int) -> None:
    """What follows the last member must be zeros; if nothing does, the end may have been cut off."""
    if offset == size:
        log.warning("%s: ends without the mark of its end: was it cut between two members?", redact(url))
    raw.seek(offset)
    while block := raw.read(MOST_AT_ONCE_BYTES):
        if block.strip(b"\0"):
            raise tarfile.ReadError(
                f"what follows byte {offset:,} of {size:,} is no member; several tars in one file have to be "
                "taken apart"
            )


class _Sample:
    """The members of a sample, of which the picture and the caption are read."""

    def __init__(self, raw: BinaryIO, encoding: Encoding, keys: Keys) -> None:
        self._raw, self._encoding, self._keys = raw, encoding, keys

    def read(self, key: str, members: Iterator[tarfile.TarInfo]) -> Record:
        """Raises Reject if it cannot be used."""
        if key.startswith("/") or ".." in key.split("/"):
            raise Reject("path_outside", f"{key[:200]!r}: an absolute path, or one that leads upwards")
        record: Record = {}
        described: bytes | None = None
        image = self._keys.image or "image"
        for member in members:
            kind = _kind(member.name)
            if self._is_picture(kind):
                if image in record:
                    raise Reject("record_damaged", f"a second picture, .{kind}: choose by --second-sequence")
                record[image] = self._content(member)
            elif kind in (_CAPTION, self._keys.text):
                text = self._content(member).decode(self._encoding, "surrogateescape")
                record["text" if kind != self._keys.text else kind] = text.removeprefix("\ufeff").strip()
            elif kind == "json":
                described = self._content(member)
        if image not in record or (len(record) == 1 and described is None):
            what = "picture" if image not in record else "caption (.txt or .json)"
            raise Reject(
                "record_damaged", f"no {what} beside the other members; tar --sort=name puts them so"
            )
        wanted = self._keys.text not in (None, _CAPTION) or self._keys.idx != "idx"
        wanted = wanted or self._keys.template is not None
        if described is not None and (len(record) == 1 or wanted):
            record = json_object(described, self._encoding) | record
        return record

    def _is_picture(self, kind: str) -> bool:
        return kind == self._keys.image if self._keys.image else f".{kind}" in PICTURES

    def _content(self, member: tarfile.TarInfo) -> bytes:
        if not member.isreg() or member.issparse():
            what = (
                f"a link to {member.linkname[:80]!r}" if member.islnk() or member.issym() else "no plain file"
            )
            raise Reject("record_damaged", f"{member.name[:200]!r} is {what}")
        if member.size > MAX_CELL_BYTES:
            raise Reject("cell_too_large", f"{member.size:,} bytes, at most {MAX_CELL_BYTES:,}")
        self._raw.seek(member.offset_data)
        return self._raw.read(member.size)
