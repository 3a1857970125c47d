"""Chinese-CLIP's data sets -> records: SPLIT_texts.jsonl beside SPLIT_imgs.tsv, or the LMDB made of both.

Texts name their pictures by number; every pair of text and picture is a record.
"""

import logging
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from painter_core.errors import Reject
from painter_core.files.storage import filesystem, redact
from painter_core.stages.make_table.lines import blocks, json_records
from painter_core.stages.make_table.row import Row
from painter_core.tables.columns import Encoding
from painter_core.tables.tsv import split_lines
from schemas.pairs import MAX_CELL_BYTES

log = logging.getLogger(__name__)

TEXTS, PICTURES = "_texts.jsonl", "_imgs.tsv"
# of a pickled tuple of numbers and strings; nothing is unpickled
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_AROUND = ("PROTO", "FRAME", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "TUPLE", "TUPLE3", "STOP")
Records = Iterator[tuple[Row, dict[str, Any]]]


def tsv_pairs(texts: str, encoding: Encoding) -> Records:
    """The pairs of a file of texts, in its order; its pictures are found by where their lines begin.

    Memory holds the numbers of all pictures, about 100 bytes each.
    """
    fs, path = filesystem(pictures := texts.removesuffix(TEXTS) + PICTURES)
    places = _places(pictures)
    used: set[str] = set()
    for place, record in json_records(texts, encoding):
        if place.error:
            yield place, {}
            continue
        ids = record.get("image_ids")
        if not isinstance(ids, list) or not ids:
            what = "image_ids: expected a list of numbers of pictures"
            yield place.rejected(Reject("record_damaged" if ids else "img_missing", what)), {}
            continue
        for image_id in map(str, ids):
            pair = _pair(place, str(record.get("text_id", place.number)), image_id)
            start, size = places.get(image_id, (0, 0))
            if not size:
                yield pair.rejected(_no_picture(image_id, pictures)), {}
            elif size > MAX_CELL_BYTES:
                yield (
                    pair.rejected(Reject("cell_too_large", f"{size:,} bytes, at most {MAX_CELL_BYTES:,}")),
                    {},
                )
            else:
                used.add(image_id)
                line = fs.cat_file(path, start=start, end=start + size)
                cell = line.rstrip(b"\r\n").partition(b"\t")[2]
                yield pair, {"text": record.get("text"), "image": cell.decode("ascii", "replace")}
    if unused := len(places) - len(used):
        log.info("%s: %s pictures have no text", redact(pictures), f"{unused:,}")


def _places(pictures: str) -> dict[str, tuple[int, int]]:
    """Where the line of each picture begins, and its bytes; of a number that stands twice the first."""
    fs, path = filesystem(pictures)
    places: dict[str, tuple[int, int]] = {}
    twice = broken = 0
    for start, size, line, _ in split_lines(blocks(fs, path, 0)):
        number, tab, _ = line[:1024].partition(b"\t")
        name = number.decode("utf-8", "replace").strip().removeprefix("\ufeff")
        if not tab:
            broken += bool(line.strip())
        elif places.setdefault(name, (start, size)) != (start, size):
            twice += 1
    if twice or broken:
        log.warning(
            "%s: %d lines are no number and picture, %d have a number that an earlier one has; they are not "
            "used",
            redact(pictures),
            broken,
            twice,
        )
    return places


def lmdb_pairs(directory: str) -> Records:
    """The pairs of `directory`/pairs, in the order of their numbers, with the pictures of `directory`/imgs.

    Raises:
        ValueError: the package is missing, or the data base is damaged.
    """
    try:
        import lmdb  # an optional package
    except ImportError:
        raise ValueError(
            f"{directory}: an LMDB; install the package for it: pip install 'painter[lmdb]'"
        ) from None
    try:
        with (
            _open(lmdb, directory, "pairs") as pairs,
            _open(lmdb, directory, "imgs") as imgs,
            pairs.begin() as texts,
            imgs.begin() as pictures,
        ):
            entries, said = pairs.stat()["entries"] - 1, texts.get(b"num_samples", b"none")
            if said != str(entries).encode():
                raise ValueError(
                    f"{directory}/pairs: num_samples is {said[:20]!r}, but {entries:,} pairs are there: it "
                    "is damaged, or still being written"
                )
            for number in range(entries):
                place = Row(file=f"{directory}/pairs", number=number + 1)
                yield _lmdb_pair(place, texts.get(str(number).encode()), pictures)
    except lmdb.Error as error:
        raise ValueError(f"{directory}: damaged LMDB: {error}; make it again") from None


def _open(lmdb: Any, directory: str, name: str) -> Any:
    path = Path(directory, name)
    # without a lock file: it may be read from a disk that cannot be written
    data = lmdb.open(str(path), readonly=True, lock=False, readahead=False, max_readers=1)
    pages, size = data.info()["last_pgno"] + 1, (path / "data.mdb").stat().st_size
    if size < pages * data.stat()["psize"]:  # a page that is not there would end this process by SIGBUS
        needed = f"{pages * data.stat()['psize']:,}"
        raise ValueError(f"{path}/data.mdb: cut: it has {size:,} bytes of {needed}; fetch or make it again")
    return data


def _lmdb_pair(place: Row, pickled: bytes | None, pictures: Any) -> tuple[Row, dict[str, Any]]:
    try:
        if pickled is None:
            raise Reject("record_damaged", "no pair of this number")
        image_id, text_id, text = _values(pickled)
        place = _pair(place, str(text_id), str(image_id))
        cell = pictures.get(str(image_id).encode())
        if cell is None:
            raise _no_picture(str(image_id), "imgs")
    except Reject as error:
        return place.rejected(error), {}
    return place, {"text": text, "image": bytes(cell)}


def _values(pickled: bytes) -> list[Any]:
    """The three values of a pickled tuple, read without unpickling it: that could run code."""
    values = []
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name in _VALUES:
                values.append(argument)
            elif opcode.name not in _AROUND:
                raise ValueError(f"{opcode.name} in it")
        if len(values) != 3:
            raise ValueError(f"{len(values)} values")
    except ValueError as error:
        what = f"no pickled (image_id, text_id, text): {error}"
        raise Reject("record_damaged", what) from None
    return values


def _pair(place: Row, text_id: str, image_id: str) -> Row:
    return Row(
        file=place.file,
        number=place.number,
        byte_offset=place.byte_offset,
        idx=f"{text_id}-{image_id}",
    )


def _no_picture(image_id: str, where: str) -> Reject:
    return Reject("img_missing", f"no picture {image_id[:80]!r} in {redact(where)}")
