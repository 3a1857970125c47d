"""A table of 200 pairs in the forms that people have them in, ten of them broken."""

import base64
import csv
import io
import json
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lmdb
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROWS, EVERY = 200, 20  # rows 0, 20, 40 ... are broken
OUTSIDE = "../outside.png"


@dataclass(frozen=True)
class Pair:
    """A row as it should come out; a broken one has no picture or caption that could."""

    idx: str
    text: str
    image: bytes


def picture(number: int) -> bytes:
    """A small PNG or JPEG, another for each number."""
    out = io.BytesIO()
    image = Image.new("RGB", (20, 18), (number, 255 - number, number * 7 % 256))
    image.save(out, ("PNG", "JPEG")[number % 2])
    return out.getvalue()


def bomb() -> bytes:
    """A PNG that says that it has 60,000 x 60,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + picture(0)[33:]


def pairs() -> list[Pair]:
    """The rows; of the broken ones four are so in any form: the last of them when pictures are decoded."""
    made = [Pair(f"{n:04d}", f"第{n}件, 红色的杯子", picture(n)) for n in range(ROWS)]
    common = [("", picture(1)), ("红", b""), ("红", picture(1)[:-200]), ("红", bomb()), ("红", b"<html>404")]
    for number, (text, image) in enumerate(common):
        made[number * EVERY] = Pair(made[number * EVERY].idx, text, image)
    return made


COMMON = {"text_empty": 1, "img_empty": 1}
DECODED = {"img_truncated": 1, "img_too_large": 1, "img_unidentified": 1}
FIRST_OWN = 5 * EVERY  # from here on a form's own five broken rows


def b64(image: bytes) -> str:
    return base64.b64encode(image).decode()


def own(faults: list) -> Iterator[tuple[int, Pair, object]]:
    """Number, row, and what is wrong with it in this form, if anything."""
    for number, pair in enumerate(pairs()):
        at = number - FIRST_OWN
        yield number, pair, faults[at // EVERY] if at >= 0 and at % EVERY == 0 else None


def _member(tar: tarfile.TarFile, name: str, data: bytes, **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def tars(folder: Path, caption: str = "txt") -> dict[str, int]:
    """Two shards, captions in .txt, or in the .json under this key."""
    faults = ["no picture", "no caption", "link", "outside", "encoding"]
    shards = [tarfile.open(folder / f"{n:05d}.tar", "w") for n in range(2)]  # noqa: SIM115
    for number, pair, fault in own(faults):
        tar, name = shards[number * 2 // ROWS], "../up" if fault == "outside" else f"a/{pair.idx}"
        if fault == "link":
            _member(tar, f"{name}.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        elif fault != "no picture":
            _member(tar, f"{name}.{'jpg' if number % 2 else 'PNG'}", pair.image)
        text = "\udcff\udcfe" if fault == "encoding" else pair.text
        if fault != "no caption":
            described = json.dumps({caption: pair.text, "width": 20}).encode()
            if fault == "encoding":
                described = b'{"' + caption.encode() + b'": "\xff"}'
            data = text.encode("utf-8", "surrogateescape") if caption == "txt" else described
            _member(tar, f"{name}.{'txt' if caption == 'txt' else 'json'}", data)
    for tar in shards:
        tar.close()
    return {"record_damaged": 3, "path_outside": 1, "text_encoding": 1}


def jsonl(folder: Path) -> dict[str, int]:
    """Base64 in JSON lines."""
    half = json.dumps({"image": b64(picture(1)), "text": "\ud83d"})  # of an emoji
    faults = [
        *("{", "[]", '{"image": "https://a.b/c.jpg", "text": "红"}', '{"image": "a!b", "text": "红"}', half)
    ]
    lines = [
        str(fault) if fault else json.dumps({"idx": pair.idx, "text": pair.text, "image": b64(pair.image)})
        for _, pair, fault in own(faults)
    ]
    (folder / "pairs.jsonl").write_text("\n\n".join(lines) + "\n")
    return {"record_damaged": 2, "img_missing": 1, "b64_invalid": 1, "text_encoding": 1}


def _pictures(folder: Path) -> None:
    """Picture files, and what paths must not lead to."""
    (folder / "images" / "directory.png").mkdir(parents=True)
    for pair in pairs():
        (folder / "images" / f"{pair.idx}.png").write_bytes(pair.image)
    (folder.parent / "outside.png").write_bytes(picture(1))


PATHS = [OUTSIDE, "/etc/passwd", "images/none.png", "images/directory.png", "images/a\0.png"]
OF_PATHS = {"path_outside": 2, "img_missing": 3}


def image_folder(folder: Path) -> dict[str, int]:
    """An image folder of Hugging Face: metadata.jsonl beside the pictures."""
    _pictures(folder)
    lines = [
        json.dumps({"file_name": fault or f"images/{pair.idx}.png", "text": pair.text, "idx": pair.idx})
        for _, pair, fault in own(PATHS)
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return OF_PATHS


def csv_of_paths(folder: Path) -> dict[str, int]:
    """A CSV of paths, with other columns and quotes."""
    _pictures(folder)
    faults = [*PATHS[:2], '9,"a"b,images/0001.png', "9,红", b"9,\xff,images/0001.png"]
    out = io.BytesIO(b"")
    for _, pair, fault in own(faults):
        path = fault if fault in PATHS else f"images/{pair.idx}.png"
        line = io.StringIO()
        csv.writer(line).writerow([pair.idx, pair.text, path])
        data = line.getvalue().encode()
        if fault and fault not in PATHS:
            data = (fault if isinstance(fault, bytes) else str(fault).encode()) + b"\r\n"
        out.write(data)
    (folder / "metadata.csv").write_bytes(b"\xef\xbb\xbfidx,text,file_name\r\n" + out.getvalue())
    return {"path_outside": 2, "record_damaged": 1, "bad_columns": 1, "text_encoding": 1}


def parquet(folder: Path) -> dict[str, int]:
    """Parquet of Hugging Face: pictures as {bytes, path}, captions in lists of structures."""
    faults = ["no captions", "null captions", "null", "outside", "missing"]
    table = []
    for _, pair, fault in own(faults):
        image: dict | None = {"bytes": pair.image, "path": f"{pair.idx}.png"}
        if fault in ("outside", "missing"):
            image = {"bytes": None, "path": OUTSIDE if fault == "outside" else "none.png"}
        captions: list | None = [{"raw": pair.text, "lang": "zh"}]
        if fault in ("no captions", "null captions"):
            captions = [] if fault == "no captions" else None
        table.append({"idx": pair.idx, "image": None if fault == "null" else image, "captions": captions})
    schema = pa.schema(
        [
            ("idx", pa.string()),
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("captions", pa.list_(pa.struct([("raw", pa.string()), ("lang", pa.string())]))),
            ("width", pa.float64()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(table, schema=schema), folder / "train.parquet", row_group_size=64)
    return {"text_empty": 2, "img_empty": 1, "path_outside": 1, "img_missing": 1}


def _texts(faults: list) -> list[str]:
    return [
        str(fault) if fault else json.dumps({"text_id": number, "text": pair.text, "image_ids": [number]})
        for number, pair, fault in own(faults)
    ]


def clip_tsv(folder: Path) -> dict[str, int]:
    """Chinese-CLIP's two files."""
    faults = ["{"] + [
        json.dumps({"text_id": 1, "text": "红"} | more)
        for more in ({"image_ids": [9999]}, {}, {"image_ids": []}, {"text": None, "image_ids": [1]})
    ]
    (folder / "train_texts.jsonl").write_text("\n".join(_texts(faults)) + "\n")
    lines = [f"{number}\t{b64(pair.image)}\n" for number, pair in enumerate(pairs())]
    (folder / "train_imgs.tsv").write_text("".join(lines))
    return {"record_damaged": 1, "img_missing": 3, "text_empty": 1}


class Runs:
    """A pickle that runs code when it is read."""

    def __reduce__(self) -> tuple:
        return print, ("unpickled",)


def clip_lmdb(folder: Path) -> dict[str, int]:
    """The LMDB that Chinese-CLIP makes of them."""
    faults = [pickle.dumps((9999, 1, "红")), pickle.dumps(Runs()), b"no pickle", pickle.dumps((1, 2)),
              pickle.dumps((1, 2, b"bytes"))]  # fmt: skip
    with lmdb.open(str(folder / "imgs"), map_size=2**26) as env, env.begin(write=True) as images:
        for number, pair in enumerate(pairs()):
            images.put(str(number).encode(), b64(pair.image).encode())
        images.put(b"num_images", b"200")
    with lmdb.open(str(folder / "pairs"), map_size=2**26) as env, env.begin(write=True) as texts:
        for number, pair, fault in own(faults):
            texts.put(str(number).encode(), fault or pickle.dumps((number, number, pair.text)))
        texts.put(b"num_samples", b"200")
    return {"img_missing": 1, "record_damaged": 4}


FORMS: dict[str, Callable[[Path], dict[str, int]]] = {
    "tar": tars,
    "tar with json": lambda folder: tars(folder, "caption"),
    "jsonl of base64": jsonl,
    "image folder": image_folder,
    "csv of paths": csv_of_paths,
    "parquet": parquet,
    "chinese-clip tsv": clip_tsv,
    "chinese-clip lmdb": clip_lmdb,
}
