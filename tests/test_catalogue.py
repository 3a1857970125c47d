"""Cases 1-62 and 104-105 of the catalogue of bad inputs: what happens to each, by its number.

Every input is made here and goes through plan, reader and decoder as functions, between two good rows that
must come out. Where the design decides otherwise than the catalogue, a comment says so.
"""

import base64
import dataclasses
import gzip
import io
import json
import logging
import re
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from painter_core.checkpoint import write_model
from painter_core.images import decode_image, image_of_cell
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.rejects import describe
from painter_core.sequence import text_ids
from painter_core.stages import launch
from painter_core.stages.commit import parquet_bytes
from painter_core.stages.generate import GenerateConfig, PaintUnits
from painter_core.stages.inspect import InspectConfig, inspect
from painter_core.stages.plan import group_units, plan_units
from painter_core.stages.precompute import PrecomputeConfig
from painter_core.stages.readers import UnitReader, unpack
from painter_core.stages.run import Job, RunConfig
from painter_core.stages.tables import find_files
from painter_core.tokenizer import from_vocab
from schemas.rejects import REASONS, WARNINGS

SIDE = 32
CASES: list = []


def case(number: int, label: str) -> Callable:
    """Registers the check of a case."""

    def register(check: Callable) -> Callable:
        CASES.append(pytest.param(check, id=f"{number:03d}-{label}"))
        return check

    return register


@pytest.mark.parametrize("check", CASES)
def test_case(check: Callable[[Path], None], tmp_path: Path) -> None:
    check(tmp_path)


def test_every_case_is_here() -> None:
    numbers = {int(param.id[:3]) for param in CASES}
    assert numbers == {*range(1, 63), 104, 105}


# --- running a table -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came out of a table."""

    kept: list[dict]
    """idx, text, pixels of each row."""
    rejects: dict[int, dict]
    """Lines of the rejects table by row number."""
    warnings: Counter[str]
    rows_in: int


def run(tables: Path, *more: Path, in_child: bool | None = None) -> Found:
    """Plan, read and decode, as jobs/precompute_codes.py does."""
    names = ",".join(map(str, (tables, *more)))
    config = PrecomputeConfig(run=RunConfig(tables=names, outputs="unused"))
    files, columns = find_files(names), config.columns()
    units = plan_units(files, columns, micro_batch_size=16, limit=None)
    reader = UnitReader(files=files, columns=columns, stage="precompute", keep_rejected=False)
    decode = dataclasses.replace(config.decoder(SIDE), in_child=in_child)
    kept, rejected, warnings, rows_in = [], {}, Counter(), 0
    for group in group_units(units):
        for row in reader({"units": [dataclasses.asdict(u) for u in group]}):
            warnings.update(json.loads(row["warnings"]))
            decoded = decode(row)
            rows = unpack(decoded["table"]).to_pylist()
            pixels = np.frombuffer(decoded["pixels"], np.uint8).reshape(-1, SIDE, SIDE, 3)
            kept += [line | {"pixels": p} for line, p in zip(rows, pixels, strict=True)]
            rejected |= {line["row"]: line for line in unpack(decoded["rejects"]).to_pylist()}
            rows_in += decoded["rows_in"]
    assert rows_in == len(kept) + len(rejected)
    return Found(kept=kept, rejects=rejected, warnings=warnings, rows_in=rows_in)


def encoded(picture: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """A picture as a file."""
    out = io.BytesIO()
    picture.save(out, image_format, **options)
    return out.getvalue()


def plain(colour: object, mode: str = "RGB", size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    return Image.new(mode, size, colour)


def b64(image: bytes) -> str:
    return base64.b64encode(image).decode()


NOISE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (60, 80, 3), np.uint8))
PNG, JPEG = encoded(plain((200, 30, 60))), encoded(NOISE, "JPEG")
CELL = b64(PNG)
GOOD, LAST = f"好\t红色\t{CELL}", f"末\t红色\t{CELL}"


def table(*lines: str | bytes, end: bytes = b"\n") -> bytes:
    """Lines as a TSV."""
    return b"\n".join(line.encode() if isinstance(line, str) else line for line in lines) + end


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def run_lines(root: Path, *lines: str | bytes) -> Found:
    """Lines of a TSV between two good ones: the first of them is physical line 2."""
    return run(write(root / "t.tsv", table(GOOD, *lines, LAST)))


def run_cells(root: Path, *cells: str | bytes | None, text: str = "红色") -> Found:
    """Picture cells between two good ones, in a Parquet file."""
    kind = pa.large_binary() if any(isinstance(c, bytes) for c in cells) else pa.large_string()
    good = PNG if pa.types.is_large_binary(kind) else CELL
    values = pa.array([good, *cells, good], kind)
    pairs = {"idx": [str(i) for i in range(len(values))], "text": [text] * len(values), "imgbase64": values}
    pq.write_table(pa.table(pairs), root / "t.parquet", use_dictionary=False)
    return run(root / "t.parquet")


def accepted(found: Found, rows: int = 1, **warnings: int) -> list[dict]:
    """Nothing was rejected; the rows between the good ones."""
    assert not found.rejects, [describe(line) for line in found.rejects.values()]
    assert len(found.kept) == rows + 2
    assert found.warnings == warnings
    return found.kept[1:-1]


def rejected(found: Found, reason: str, detail: str = "", column: str = "imgbase64", rows: int = 1) -> None:
    """The rows between the good ones, and no others, were set aside."""
    assert sorted(found.rejects) == list(range(2, 2 + rows))
    assert len(found.kept) == 2
    for line in found.rejects.values():
        assert line["reason"] == reason
        assert re.search(detail, line["detail"]), line["detail"]
        assert line["column"] == column
        assert line["stage"] == "precompute"
        assert describe(line).startswith(f"{reason}: {line['file']} ")
        assert REASONS[reason] in describe(line)


def colour(row: dict) -> list[int]:
    """Of a plain picture."""
    assert (row["pixels"] == row["pixels"][0, 0]).all()
    return row["pixels"][0, 0].tolist()


def refused(check: Callable[[], object], *words: str) -> None:
    """A ValueError before any row is out, with these words in its message."""
    with pytest.raises(ValueError, match=r".") as caught:
        check()
    assert all(word in str(caught.value) for word in words), str(caught.value)


# --- 1-24: picture cells ---------------------------------------------------------------------------

NOISE_B64 = b64(JPEG)
URLSAFE = base64.urlsafe_b64encode(JPEG).decode()
assert "+" in NOISE_B64
assert "/" in NOISE_B64


def cells(number: int, label: str, *values: str | bytes | None, reason: str = "", detail: str = "") -> None:
    """A case of picture cells: each alone in a TSV (text) and all in a Parquet file."""

    @case(number, label)
    def check(root: Path) -> None:
        found = run_cells(root, *values)
        if reason:
            rejected(found, reason, detail, rows=len(values))
        else:
            accepted(found, len(values))
        texts = [v for v in values if isinstance(v, str) and "\n" not in v]
        if not texts:
            return
        found = run_lines(root, *(f"{i}\t文\t{v}" for i, v in enumerate(texts)))
        if reason:
            rejected(found, reason, detail, rows=len(texts))
            assert found.rejects[2]["byte_offset"] == len(GOOD.encode()) + 1
        else:
            accepted(found, len(texts))


cells(1, "empty", "", reason="img_empty")
cells(1, "null", None, reason="img_empty")
cells(1, "blank", " \x0b ", reason="img_empty")
cells(2, "lines", "\r\n".join(CELL[i : i + 76] for i in range(0, len(CELL), 76)), f" {CELL}  ", f"\n{CELL}\n")
cells(3, "urlsafe", URLSAFE, NOISE_B64)
cells(3, "mixed", NOISE_B64.replace("+", "-", 1), reason="b64_mixed")
cells(4, "data-uri", f"data:image/png;base64,{CELL}", f"data:;base64,{CELL}")
cells(4, "broken-data-uri", f"data:image/png,{CELL}", reason="b64_invalid", detail="':' at byte 4")
cells(5, "no-padding", URLSAFE.rstrip("="), b64(PNG + b"\0").rstrip("="), b64(PNG + b"\0\0").rstrip("="))
cells(6, "plus-to-space", NOISE_B64.replace("+", " "), reason="b64_invalid", detail=r"turned \+ into space")
cells(7, "repr", f"b'{CELL}'", f"['{CELL}']", reason="b64_repr")
cells(8, "glued", b64(PNG + b"\0") + CELL, reason="b64_trailing", detail="follow the padding")
LOST = NOISE_B64.rstrip("=") + "A" * (-len(NOISE_B64.rstrip("=")) % 4)
cells(9, "lost-character", LOST[:-3], reason="b64_invalid", detail="one is missing")
cells(
    9,
    "foreign-character",
    NOISE_B64[:50] + "。" + NOISE_B64[51:],
    reason="b64_invalid",
    detail="'。' at byte 50",
)
HTML = b"<!DOCTYPE html><html>404</html>"
cells(10, "error-page", b64(HTML), b64(b'{"error": 403}'), reason="img_unidentified", detail="starts with b'")
cells(
    10,
    "url",
    "https://example.org/a.jpg?x=1",
    "img/红.png",
    reason="img_unidentified",
    detail="URL or a path",
)
cells(10, "bytes-of-a-page", HTML, reason="img_unidentified", detail="<!DOCTYPE html>")
cells(11, "jpeg", b64(JPEG[: len(JPEG) // 2]), b64(JPEG[:-200]), reason="img_truncated", detail="JPEG 80x60")
cells(11, "png", encoded(NOISE)[:-2000], reason="img_truncated", detail="PNG 80x60")
cells(11, "header", JPEG[:15], PNG[:20], reason="img_truncated", detail="header")


@case(12, "grey16")
def _(root: Path) -> None:
    (row,) = accepted(run_cells(root, encoded(Image.fromarray(np.full((SIDE, SIDE), 0x4321, np.uint16)))))
    assert colour(row) == [0x43] * 3


@case(13, "alpha")
def _(root: Path) -> None:
    clear = encoded(plain((9, 99, 199, 0), "RGBA"))
    half = encoded(plain((0, 100, 200, 128), "RGBA"))
    palette = encoded(plain(0, "P"), transparency=0)
    colours = [colour(row) for row in accepted(run_cells(root, clear, half, palette), 3)]
    assert colours == [[255] * 3, [127, 177, 227], [255] * 3]
    assert decode_image(clear, SIDE, alpha="drop")[0, 0].tolist() == [9, 99, 199]


@case(14, "modes")
def _(root: Path) -> None:
    cmyk = [encoded(plain(ink, "CMYK"), "JPEG", quality=100) for ink in ((0, 0, 0, 0), (0, 0, 0, 255))]
    assert all(b"Adobe" in image for image in cmyk)  # stored inverted
    others = [encoded(p) for p in (plain(255, "L"), plain(1, "1"), plain((0, 0, 255)).convert("P"))]
    colours = [colour(row) for row in accepted(run_cells(root, *cmyk, *others), 5)]
    assert colours == [[255] * 3, [0] * 3, [255] * 3, [255] * 3, [0, 0, 255]]


@case(15, "animated")
def _(root: Path) -> None:
    options = {"save_all": True, "append_images": [plain((255, 255, 255))]}
    images = [encoded(plain((0, 0, 0)), f, **options) for f in ("GIF", "PNG", "WEBP")]
    assert [colour(row) for row in accepted(run_cells(root, *images), 3)] == [[0] * 3] * 3
    notes: Counter[str] = Counter()
    for image in images:
        decode_image(image, SIDE, notes=notes)
    assert notes == {"animated_first_frame": 3}


@case(16, "exif")
def _(root: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    images = [
        encoded(NOISE, "JPEG", exif=exif) for exif in (turned.tobytes(), b"Exif\0\0garbage", b"Exif\0\0II*\0")
    ]
    # the design ignores orientation, as EasyNLP does ("exif": "ignore" in the fingerprint)
    straight = decode_image(JPEG, SIDE)
    assert all((row["pixels"] == straight).all() for row in accepted(run_cells(root, *images), 3))


@case(17, "metadata")
def _(root: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    profile = encoded(NOISE, "JPEG", icc_profile=b"no profile at all" * 9)
    png = PNG[:33] + chunk(b"iCCP", b"x\0\0not zlib") + chunk(b"tEXt", b"\xff\xfe") + PNG[33:]
    assert len(accepted(run_cells(root, profile, png), 2)) == 2


cells(
    18,
    "tiny",
    encoded(plain(0, size=(1, 1))),
    encoded(plain(0, size=(15, 40))),
    reason="img_too_small",
    detail="16",
)
cells(19, "strip", encoded(plain(0, "1", (1, 20000))), encoded(plain(0, "1", (640, 31))), reason="img_aspect")


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more pixels than it has."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


cells(20, "bomb", png_header(7072, 7072), png_header(60_000, 60_000), reason="img_too_large", detail="pixels")
cells(
    21,
    "by-pillow",
    *(encoded(NOISE, f) for f in ("EPS", "PDF", "TIFF", "ICO")),
    reason="img_format",
    detail="JPEG, PNG",
)
OTHERS = (
    *(b"8BPS\0\1", b"SIMPLE  =  T", b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x18ftypheic"),
    *(b"\0\0\0\x20ftypavif", b"\xff\x0a\xfa", b"\0\0\0\x0cJXL \r\n\x87\n"),
    b'<?xml version="1.0"?><svg xmlns="x">',
)
cells(21, "by-magic", *(magic + bytes(40) for magic in OTHERS), reason="img_format")
cells(22, "huge-cell", bytes(64 * 2**20 + 1), reason="cell_too_large", detail="67,108,865 bytes")


@case(23, "poison")
def _(root: Path) -> None:
    # with Ray: tests/test_poison.py
    path = write(root / "t.tsv", table(GOOD, GOOD, LAST))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAINTER_ENABLE_FAULTS", "1")
        patch.setenv("PAINTER_POISON", "2:exit")
        rejected(run(path, in_child=True), "worker_crash", "exit code 9, 2 times")


# the share of identical code rows (W) is said by jobs/inspect_table.py: tests/test_inspect.py
cells(24, "blank-pictures", *[encoded(plain((255, 255, 255)))] * 3)


# --- 25-42: text tables ----------------------------------------------------------------------------


@case(25, "header")
def _(root: Path) -> None:
    header = "idx\ttext\timgbase64"
    log: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = log.append  # type: ignore[method-assign]
    logger = logging.getLogger("painter_core.stages.tsv_head")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    for ends in ("", "\r"):
        found = run(write(root / "t.tsv", table(header + ends, GOOD, GOOD)))
        assert (found.rows_in, len(found.kept)) == (2, 2)
    logger.removeHandler(handler)
    logger.setLevel(level)
    assert [str(root / "t.tsv") + ": the first line is a header"] * 2 == [r.getMessage() for r in log]
    assert run(write(root / "t.tsv", table(GOOD, header, GOOD))).rejects[2]["reason"] == "b64_invalid"


@case(26, "quotes")
def _(root: Path) -> None:
    texts = ['"open', 'closed"', '"both"', '"', "'"]
    rows = accepted(run_lines(root, *(f'"{i}\t{t}\t{CELL}' for i, t in enumerate(texts))), 5)
    assert [(row["idx"], row["text"]) for row in rows] == [(f'"{i}', t) for i, t in enumerate(texts)]


@case(27, "columns")
def _(root: Path) -> None:
    found = run_lines(root, "1\t红", f"2\t红\t色\t{CELL}", f"3\t红\t{CELL}\t", "4")
    rejected(found, "bad_columns", r"\d columns, expected 3 \(idx, text, imgbase64\)", column="", rows=4)
    assert [found.rejects[n]["idx"] for n in range(2, 6)] == ["1", "2", "3", "4"]
    assert describe(found.rejects[3]).startswith(f"bad_columns: {root / 't.tsv'} line 3, idx '2': 4 columns")


@case(28, "carriage-returns")
def _(root: Path) -> None:
    rows = accepted(run_lines(root, f"1\t红\r色\t{CELL}", f"2\t红\r\t{CELL}\r", f"3\t红\t{CELL}\r\r"), 3,
                    text_invisible=2)  # fmt: skip
    assert [row["text"] for row in rows] == [
        "红\r色",
        "红\r",
        "红",
    ]  # a second \r is white space of the base64


@case(29, "line-separators")
def _(root: Path) -> None:
    texts = ["a\u2028b", "a\u2029b", "a\u0085b", "a\vb", "a\fb", "a\x1cb"]
    rows = run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(texts)))
    assert [row["text"] for row in rows.kept[1:-1]] == texts


@case(30, "byte-order-mark")
def _(root: Path) -> None:
    for header in (b"", b"idx\ttext\timgbase64\n"):
        found = run(write(root / "t.tsv", b"\xef\xbb\xbf" + header + table(GOOD, GOOD)))
        assert [row["idx"] for row in found.kept] == ["好", "好"]


@case(31, "other-encodings")
def _(root: Path) -> None:
    lines = "\n".join(f"{i}\t红色连衣裙{i}\t{CELL}" for i in range(20))
    refused(
        lambda: run(write(root / "gbk.tsv", lines.encode("gb18030"))),
        "gbk.tsv",
        "not UTF-8 at byte 2",
        "gb18030",
    )
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        refused(lambda e=encoding: run(write(root / "u.tsv", lines.encode(e))), "u.tsv", "UTF-16")


@case(32, "one-bad-byte")
def _(root: Path) -> None:
    bad = [
        b"1\t\xe7\xba\t" + CELL.encode(),
        b"2\t\xed\xa0\x80\t" + CELL.encode(),
        b"3\ta\xff\t" + CELL.encode(),
    ]
    found = run_lines(root, *bad)
    rejected(found, "text_encoding", r"byte \d+ is 0x", column="text", rows=3)
    assert [found.rejects[n]["idx"] for n in (2, 3, 4)] == ["1", "2", "3"]
    assert run_lines(root, b"\xff1\ta\t" + CELL.encode()).rejects[2]["column"] == "idx"
    # a Parquet string may hold such bytes too
    text = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"a\xff", b"b"]).buffers())
    pq.write_table(
        pa.table({"idx": ["1", "2", "3"], "text": text, "imgbase64": [CELL] * 3}), root / "t.parquet"
    )
    rejected(run(root / "t.parquet"), "text_encoding", r"not UTF-8: b'a\\xff'", column="text")
    image = pa.Array.from_buffers(pa.string(), 3, pa.array([CELL.encode(), b"\xff", CELL.encode()]).buffers())
    pq.write_table(
        pa.table({"idx": ["1", "2", "3"], "text": ["a"] * 3, "imgbase64": image}), root / "t.parquet"
    )
    rejected(run(root / "t.parquet"), "text_encoding", column="imgbase64")


@case(33, "invisible-characters")
def _(root: Path) -> None:
    texts = ["a\0b", "a\x1bb", "a\u202eb", "a\u200bb", "a\ufeffb", "a\x7fb"]
    rows = accepted(run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(texts))), 6, text_invisible=6)
    assert [row["text"] for row in rows] == texts


@case(34, "long-rows")
def _(root: Path) -> None:
    long = f"1\t{'长' * 10**6}\t{CELL}"
    (row,) = accepted(run_lines(root, long))
    assert len(row["text"]) == 10**6
    found = run_lines(root, b"1\ta\t" + b"A" * 64 * 2**20)
    rejected(found, "row_too_large", "67,108,868 bytes, at most 67,108,864", column="")


@case(35, "types-are-not-guessed")
def _(root: Path) -> None:
    cells_ = ["00012", "1e5", "true", "NA", "null", "NaN", "-0", "1,000", "2020-01-01"]
    rows = accepted(run_lines(root, *(f"{c}\t{c}\t{CELL}" for c in cells_)), len(cells_), text_formula=1)
    assert [(row["idx"], row["text"]) for row in rows] == [(c, c) for c in cells_]


@case(36, "types-change-late")
def _(root: Path) -> None:
    rows = accepted(run_lines(root, *(f"{i}\t{i}\t{CELL}" for i in range(600)), f"abc\tx\t{CELL}"), 601)
    assert rows[-1]["idx"] == "abc"


@case(37, "blank-lines")
def _(root: Path) -> None:
    found = run_lines(root, "", "\r", f"1\t\t{CELL}", "")
    assert list(found.rejects) == [4]
    assert (found.rows_in, found.warnings) == (3, {"blank_line": 3})


@case(38, "cut-last-line")
def _(root: Path) -> None:
    found = run(write(root / "t.tsv", table(GOOD, GOOD, "1\t红", end=b"")))
    assert found.rejects[3]["reason"] == "truncated_row"
    assert "still being written" in describe(found.rejects[3])
    assert len(run(write(root / "t.tsv", table(GOOD, GOOD, end=b""))).kept) == 2


@case(39, "gzip")
def _(root: Path) -> None:
    whole = gzip.compress(table(*[GOOD] * 50))
    assert len(run(write(root / "t.tsv.gz", whole)).kept) == 50
    for cut in (whole[:-4], whole[: len(whole) // 2], whole[:5]):
        refused(lambda d=cut: run(write(root / "cut.tsv.gz", d)), "cut.tsv.gz: damaged or cut gzip")
    broken = bytearray(whole)
    broken[40] ^= 255
    refused(lambda: run(write(root / "flip.tsv.gz", bytes(broken))), "flip.tsv.gz: damaged or cut gzip")
    refused(lambda: run(write(root / "plain.tsv.gz", table(GOOD))), "plain.tsv.gz: damaged or cut gzip")
    refused(
        lambda: run(write(root / "packed.tsv", whole)),
        "packed.tsv: this is compressed by gzip: name it .tsv.gz",
    )
    refused(
        lambda: run(write(root / "t.tsv", parquet_bytes(pa.table({"a": [1]})))),
        "t.tsv: this is a Parquet file",
    )
    refused(
        lambda: run(write(root / "x.tsv", b"PK\x03\x04")), "x.tsv: this is a zip archive or an .xlsx file"
    )


@case(40, "changed-file")
def _(root: Path) -> None:
    path = write(root / "t.tsv", table(GOOD, GOOD))
    files = find_files(str(path))
    columns = PrecomputeConfig(run=RunConfig(tables="", outputs="")).columns()
    units = plan_units(files, columns, micro_batch_size=16, limit=None)
    write(path, table(GOOD, GOOD, GOOD))
    reader = UnitReader(files=files, columns=columns, stage="x", keep_rejected=False)
    refused(
        lambda: list(reader({"units": [vars(units[0])]})),
        "t.tsv: the file changed after the plan",
        "--overwrite",
    )


@case(41, "other-names")
def _(root: Path) -> None:
    for header in ("idx\ttext\timage", "text\tidx\timgbase64", "idx\tcaption\tpicture"):
        path = write(root / "t.tsv", table(header, GOOD))
        refused(
            lambda p=path: run(p), "t.tsv: the first line looks like a header", "expected", "--input-schema"
        )
    pq.write_table(pa.table({"idx": ["1"], "text": ["a"], "picture": [PNG]}), root / "t.parquet")
    refused(
        lambda: run(root / "t.parquet"), "t.parquet: column 'imgbase64'", "'picture'", "--second-sequence"
    )


@case(42, "zero-bytes")
def _(root: Path) -> None:
    write(root / "a.tsv", table(GOOD))
    for name in ("b.tsv", "b.parquet"):
        write(root / name, b"")
        refused(lambda: run(root), f"{name}: the file is empty (0 bytes)")
        (root / name).unlink()


# --- 43-52: Parquet, files -------------------------------------------------------------------------


def write_pairs(path: Path, rows: int = 3, **changes: object) -> Path:
    """A Parquet pairs table."""
    columns = {"idx": [str(i) for i in range(rows)], "text": ["红"] * rows, "imgbase64": [CELL] * rows}
    return write(path, parquet_bytes(pa.table(columns | changes)))


@case(43, "parquet-cut")
def _(root: Path) -> None:
    data = write_pairs(root / "good.parquet").read_bytes()
    for cut in (data[:-1], data[: len(data) // 2], data[:3], b"PAR1", table(GOOD)):
        write(root / "cut.parquet", cut)
        refused(
            lambda: run(root / "good.parquet", root / "cut.parquet"), "cut.parquet: not a whole Parquet file"
        )


@case(44, "parquet-flip")
def _(root: Path) -> None:
    rng = np.random.RandomState(0)
    cells_ = [encoded(Image.fromarray(rng.randint(0, 256, (16, 16, 3), np.uint8)), "BMP") for _ in range(3)]
    data = bytearray(write_pairs(root / "t.parquet", imgbase64=cells_).read_bytes())
    data[data.index(cells_[1][60:80]) + 5] ^= 1
    refused(lambda: run(write(root / "t.parquet", bytes(data))), "t.parquet row group 0: damaged Parquet")


@case(45, "types-differ")
def _(root: Path) -> None:
    write_pairs(root / "1.parquet", idx=pa.array([7, 8, 9]))
    write_pairs(root / "2.parquet", text=pa.array(["词"] * 3).dictionary_encode())
    write_pairs(root / "3.parquet", idx=pa.array(["a", "b", "c"], pa.large_string()))
    found = run(root)  # every column is read as string, so nothing need be merged
    assert [row["idx"] for row in found.kept] == ["7", "8", "9", "0", "1", "2", "a", "b", "c"]
    write_pairs(root / "4.parquet", idx=pa.array([0.5, 1.5, 2.5]))
    refused(lambda: run(root), "4.parquet: column 'idx': type double is not accepted, only string or integer")


@case(46, "column-missing")
def _(root: Path) -> None:
    write_pairs(root / "1.parquet")
    pq.write_table(pa.table({"idx": ["1"], "imgbase64": [CELL]}), root / "2.parquet")
    refused(
        lambda: run(root), "2.parquet: column 'text': expected once, found 0 times in ['idx', 'imgbase64']"
    )


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@case(47, "image-types")
def _(root: Path) -> None:
    missing = pa.array([{"bytes": PNG, "path": None}, {"bytes": None, "path": "a.png"}, None], IMAGE)
    found = run(write_pairs(root / "1.parquet", imgbase64=missing))
    assert {row: line["reason"] for row, line in found.rejects.items()} == {2: "img_empty", 3: "img_empty"}
    mixed = pa.array([PNG, CELL.encode(), PNG])  # a binary column may hold base64 too
    for images in (mixed, mixed.cast(pa.large_binary()), pa.array([CELL] * 3).dictionary_encode()):
        accepted(run(write_pairs(root / "2.parquet", imgbase64=images)))
    image = pa.table({"idx": ["1"], "text": ["a"], "image": [PNG]})  # the other name of the column
    pq.write_table(image, root / "4.parquet")
    assert len(run(root / "4.parquet").kept) == 1


@case(48, "large-columns")
def _(root: Path) -> None:
    # 2 GiB cannot be tried here: picture columns have 64-bit offsets, and a unit of large rows has fewer rows
    for changes in ({}, {"imgbase64": pa.array([PNG] * 3)}):
        write_pairs(root / "t.parquet", **changes)
        files = find_files(str(root / "t.parquet"))
        columns = PrecomputeConfig(run=RunConfig(tables="", outputs="")).columns()
        units = plan_units(files, columns, micro_batch_size=16, limit=None)
        (row,) = UnitReader(files=files, columns=columns, stage="x", keep_rejected=False)(
            {"units": [vars(units[0])]}
        )
        kind = unpack(row["table"]).schema.field("image").type
        assert pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)


@case(49, "pickled-extension")
def _(root: Path) -> None:
    payload = b"cos\nsystem\n(S'touch " + str(root / "ran").encode() + b"'\ntR."
    extension = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}
    field = pa.field("text", pa.binary(), metadata=extension)
    schema = pa.schema([("idx", pa.string()), field, ("imgbase64", pa.string())])
    arrays = [pa.array(["1"]), pa.array([payload]), pa.array([CELL])]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), root / "t.parquet")
    refused(lambda: run(root / "t.parquet"), "t.parquet", "extension type", "plain string")
    nested = pa.field("more", pa.struct([pa.field("x", pa.binary(), metadata=extension)]))
    write_pairs(root / "t.parquet", rows=1, more=pa.array([{"x": payload}], nested.type))
    refused(lambda: run(root / "t.parquet"), "t.parquet", "extension type")
    assert not (root / "ran").exists()


@case(50, "stray-files")
def _(root: Path) -> None:
    for name in (
        "a.tsv",
        "sub/b.tsv",
        "_tmp/c.tsv",
        ".d.tsv",
        "e.tsv.tmp",
        "_SUCCESS",
        "readme.md",
        "_run.tsv",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        write(root / name, table(GOOD))
    assert [Path(f.path).name for f in find_files(str(root))] == ["a.tsv", "b.tsv"]


@case(51, "nothing-there")
def _(root: Path) -> None:
    (root / "empty").mkdir()
    for name in ("empty", "missing.tsv", "*.tsv"):
        refused(lambda n=name: run(root / n), "--tables", name, "no such file")


@case(52, "names")
def _(root: Path) -> None:
    for name in ("a b", "中文", "a#b", "a%20b", "a[1]", "a{1}", "a*b", "a?b", "a+b=c"):
        (root / name).mkdir()
        write(root / name / f"{name}.tsv", table(GOOD))
        assert len(run(root / name / f"{name}.tsv").kept) == len(run(root / name).kept) == 1


# --- 53-62: idx, captions --------------------------------------------------------------------------


@case(53, "idx")
def _(root: Path) -> None:
    found = run_lines(root, f"\ta\t{CELL}", f"  \ta\t{CELL}", f"{'x' * 1025}\ta\t{CELL}")
    rejected(found, "idx_invalid", "empty|1,024", column="idx", rows=3)
    assert len(found.rejects[4]["idx"]) == 1024
    accepted(run_lines(root, f"{'x' * 1024}\ta\t{CELL}"))
    write_pairs(root / "t.parquet", 5, idx=pa.array(["0", None, "a\tb", "a\nb", "4"]))
    rejected(run(root / "t.parquet"), "idx_invalid", column="idx", rows=3)


@case(54, "idx-twice")
def _(root: Path) -> None:
    # a row's key is (file, row): both rows are kept
    rows = accepted(run_lines(root, f"1\ta\t{CELL}", f"1\tb\t{CELL}"), 2, idx_repeated=1)
    assert [row["text"] for row in rows] == ["a", "b"]


@case(55, "in-two-tables")
def _(root: Path) -> None:
    # a row of the validation table that is in the training table too: both tables together, by hash
    other = b64(encoded(plain((0, 0, 9))))
    train = write(root / "train.tsv", table(f"1\ta\t{CELL}", f"2\tb\t{other}"))
    valid = write(root / "valid.tsv", table(f"3\tc\t{CELL}", f"2\td\t{NOISE_B64}"))
    report = inspect(InspectConfig(tables=f"{train},{valid}"))
    assert (report.idx.num_repeated, report.idx.examples) == (1, ["2"])
    assert report.picture_cells is not None
    assert report.picture_cells.num_repeated == 1


@case(56, "caption-empty")
def _(root: Path) -> None:
    blank = ["", "   ", "\u3000", "\u200b\u200d", "\ufeff", "\x00", "\u00a0\u2060"]
    found = run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(blank)))
    rejected(found, "text_empty", "invisible", column="text", rows=len(blank))
    write_pairs(root / "t.parquet", text=pa.array(["a", None, "b"]))
    rejected(run(root / "t.parquet"), "text_empty", column="text")


VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "pad", "红", "色", "a"]
TOKENIZER = from_vocab("\n".join(VOCAB).encode())


def tokens(text: str) -> list[str]:
    return [VOCAB[i] for i in TOKENIZER.encode([text])[0]]


@case(57, "caption-long")
def _(root: Path) -> None:
    (row,) = accepted(run_lines(root, f"1\t{'红色' * 30}\t{CELL}"))
    found = text_ids(TOKENIZER, [row["text"]], text_len=32, codebook_size=8)
    assert (found.ids.shape, int(found.num_tokens[0])) == ((1, 32), 60)  # training logs how many were cut


@case(58, "caption-unknown")
def _(root: Path) -> None:
    torch.manual_seed(0)
    vqgan = VQGANConfig(image_size=16, ch=32, ch_mult=(1, 1), num_res_blocks=1, attn_resolutions=(),
                        z_channels=4, embed_dim=4, codebook_size=8)  # fmt: skip
    gpt = GPTConfig(text_vocab_size=len(VOCAB), codebook_size=8, text_len=4, image_len=vqgan.grid_size**2,
                    n_layer=1, n_head=1, n_embd=8)  # fmt: skip
    write_model(root / "model", vqgan=VQGAN(vqgan), gpt=GPT(gpt), tokenizer=TOKENIZER, card="")
    config = GenerateConfig(run=RunConfig(tables="", outputs="x.tsv"), checkpoint_dir=str(root / "model"))
    write(root / "t.tsv", table("0\t红", "1\t绿👕", "2\t绿 色", "3\t\u0301"))
    files, columns = find_files(str(root / "t.tsv")), config.columns()
    (unit,) = plan_units(files, columns, micro_batch_size=2, limit=None)
    (row,) = UnitReader(files=files, columns=columns, stage="generate", keep_rejected=False)(
        {"units": [vars(unit)]}
    )
    paint = PaintUnits(config=config, precision="fp32", micro_batch_size=2)
    done = paint(row)
    lines = unpack(done["rejects"]).to_pylist()
    # 3: an accent alone leaves no token, case 56
    assert [(line["row"], line["reason"]) for line in lines] == [(2, "text_all_unk"), (4, "text_empty")]
    assert "all of 2 tokens are unknown" in lines[0]["detail"]
    assert unpack(done["table"])["idx"].to_pylist() == ["0", "2"]
    assert len(done["pixels"]) == 2 * 16 * 16 * 3


@case(59, "special-tokens")
def _(root: Path) -> None:
    # the design knows no switch: what is typed is text
    assert tokens("[PAD]红[SEP]") == ["[", "pad", "]", "红", "[", "[UNK]", "]"]


@case(60, "normalisation")
def _(root: Path) -> None:
    texts = ["\uff21", "a\u0301", "\uf900", "红\u3000色", "Á"]
    rows = accepted(run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(texts))), 5)
    assert [row["text"] for row in rows] == texts
    assert [tokens(t) for t in texts] == [["[UNK]"], ["a"], ["[UNK]"], ["红", "色"], ["a"]]


@case(61, "text-as-given")
def _(root: Path) -> None:
    text = "  RED 红色👕 T-Shirt  "
    assert accepted(run_lines(root, f"1\t{text}\t{CELL}"))[0]["text"] == text


@case(62, "formulas")
def _(root: Path) -> None:
    texts = ["=HYPERLINK(1)", "+1", "-1", "@x"]
    rows = accepted(run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(texts))), 4, text_formula=4)
    assert [row["text"] for row in rows] == texts  # kept; an export for spreadsheets is another table


# --- 104, 105 --------------------------------------------------------------------------------------


@case(104, "library-fault")
def _(root: Path) -> None:
    # a library that lacks a function is a bug (exit code 1), never a bad picture
    write(root / "t.tsv", table(GOOD, GOOD))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("PIL.PngImagePlugin.PngImageFile.load_prepare")
        patch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: self.no_such_function())
        with pytest.raises(AttributeError):
            run(root / "t.tsv")
    # one that makes every row bad stops the run
    columns = PrecomputeConfig(run=RunConfig(tables="", outputs="")).columns()
    job = Job("precompute", RunConfig(tables="", outputs=str(root / "out")), columns)
    record = {"rows_in": 300, "rows_out": 10, "rejected": "{'img_truncated': 290}"}
    for _ in range(3):
        job._progress.add(record)
    with pytest.raises(
        launch.Stop, match=r"1,160 of the first 1,200 rows .* img_truncated: this is not your data"
    ) as stop:
        job._progress.add(record)
    assert stop.value.code == 3


@case(105, "unknown-flags")
def _(root: Path) -> None:
    flags = {
        "max-reject-fraction": ["--tables", "a", "--outputs", "b", "--max-reject-fractoin", "0.5"],
        "maybe": ["--tables", "a", "--outputs", "b", "--overwrite=maybe"],
        "--outputs": ["--tables", "a"],
        "": ["--tables", "a", "--outputs", "b", "--max-reject-fraction", "2"],
    }
    for word, arguments in flags.items():
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["precompute_codes.py", *arguments])
            patch.setattr(sys, "stderr", said)
            patch.setattr(sys, "stdout", said)
            with pytest.raises(SystemExit) as end:
                launch.parse(PrecomputeConfig, "")
        assert end.value.code == 2
        assert word in said.getvalue()


def test_every_reason_is_documented() -> None:
    doc = (Path(__file__).parents[1] / "docs" / "REJECTS.md").read_text(encoding="utf-8")
    listed = [line for line in doc.split("\n") if line.startswith("- `")]
    assert listed == [f"- `{name}`: {meaning}" for name, meaning in (REASONS | WARNINGS).items()]


def test_cells_of_rejects_can_be_given_again(tmp_path: Path) -> None:
    """docs/REJECTS.md: --keep-rejected, then --tables OUT/rejects --second-sequence cell."""
    text = "长" * 300
    path = write(tmp_path / "t.tsv", table(GOOD, f"1\t{text}\t{b64(encoded(plain(0, size=(8, 8))))}"))
    config = PrecomputeConfig(run=RunConfig(tables=str(path), outputs="x", keep_rejected=True))
    files, columns = find_files(str(path)), config.columns()
    (unit,) = plan_units(files, columns, micro_batch_size=16, limit=None)
    (row,) = UnitReader(files=files, columns=columns, stage="x", keep_rejected=True)({"units": [vars(unit)]})
    done = config.decoder(SIDE)(row)
    (tmp_path / "rejects").mkdir()
    pq.write_table(unpack(done["rejects"]), tmp_path / "rejects/part-000000.parquet")
    config = dataclasses.replace(config, second_sequence="cell")
    files, columns = find_files(str(tmp_path / "rejects")), config.columns()
    (unit,) = plan_units(files, columns, micro_batch_size=16, limit=None)
    (row,) = UnitReader(files=files, columns=columns, stage="x", keep_rejected=False)({"units": [vars(unit)]})
    (line,) = unpack(row["table"]).to_pylist()
    assert (line["idx"], line["text"]) == ("1", text)
    assert image_of_cell(line["image"]).startswith(b"\x89PNG")
