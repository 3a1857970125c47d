"""Cases 1-24 of the catalogue of bad inputs, by number: picture cells.

Every input is made here and goes through plan, reader and decoder as functions, between two good rows that
must come out. Where the design decides otherwise than the catalogue, a comment says so.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from painter_core.images.decode import decode_image
from tests.support.catalogue import (
    CELL,
    GOOD,
    JPEG,
    LAST,
    NOISE,
    NOISE_B64,
    PNG,
    SIDE,
    URLSAFE,
    accepted,
    b64,
    case,
    colour,
    encoded,
    plain,
    rejected,
    run,
    run_cells,
    run_lines,
    table,
    write,
)

CASES: list = []


# --- 1-24: picture cells ---------------------------------------------------------------------------


def cells(number: int, label: str, *values: str | bytes | None, reason: str = "", detail: str = "") -> None:
    """A case of picture cells: each alone in a TSV (text) and all in a Parquet file."""

    @case(CASES, number, label)
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


@case(CASES, 12, "grey16")
def _(root: Path) -> None:
    (row,) = accepted(run_cells(root, encoded(Image.fromarray(np.full((SIDE, SIDE), 0x4321, np.uint16)))))
    assert colour(row) == [0x43] * 3


@case(CASES, 13, "alpha")
def _(root: Path) -> None:
    clear = encoded(plain((9, 99, 199, 0), "RGBA"))
    half = encoded(plain((0, 100, 200, 128), "RGBA"))
    palette = encoded(plain(0, "P"), transparency=0)
    colours = [colour(row) for row in accepted(run_cells(root, clear, half, palette), 3)]
    assert colours == [[255] * 3, [127, 177, 227], [255] * 3]
    assert decode_image(clear, SIDE, alpha="drop")[0, 0].tolist() == [9, 99, 199]


@case(CASES, 14, "modes")
def _(root: Path) -> None:
    cmyk = [encoded(plain(ink, "CMYK"), "JPEG", quality=100) for ink in ((0, 0, 0, 0), (0, 0, 0, 255))]
    assert all(b"Adobe" in image for image in cmyk)  # stored inverted
    others = [encoded(p) for p in (plain(255, "L"), plain(1, "1"), plain((0, 0, 255)).convert("P"))]
    colours = [colour(row) for row in accepted(run_cells(root, *cmyk, *others), 5)]
    assert colours == [[255] * 3, [0] * 3, [255] * 3, [255] * 3, [0, 0, 255]]


@case(CASES, 15, "animated")
def _(root: Path) -> None:
    options = {"save_all": True, "append_images": [plain((255, 255, 255))]}
    images = [encoded(plain((0, 0, 0)), f, **options) for f in ("GIF", "PNG", "WEBP")]
    assert [colour(row) for row in accepted(run_cells(root, *images), 3)] == [[0] * 3] * 3
    notes: Counter[str] = Counter()
    for image in images:
        decode_image(image, SIDE, notes=notes)
    assert notes == {"animated_first_frame": 3}


@case(CASES, 16, "exif")
def _(root: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    images = [
        encoded(NOISE, "JPEG", exif=exif) for exif in (turned.tobytes(), b"Exif\0\0garbage", b"Exif\0\0II*\0")
    ]
    # the design ignores orientation, as EasyNLP does ("exif": "ignore" in the fingerprint)
    straight = decode_image(JPEG, SIDE)
    assert all((row["pixels"] == straight).all() for row in accepted(run_cells(root, *images), 3))


@case(CASES, 17, "metadata")
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
    *(b"\0\0\0\x20ftypmif1", b"\xff\x0a\xfa", b"\0\0\0\x0cJXL \r\n\x87\n"),
    b'<?xml version="1.0"?><svg xmlns="x">',
)
cells(21, "by-magic", *(magic + bytes(40) for magic in OTHERS), reason="img_format")
cells(22, "huge-cell", bytes(64 * 2**20 + 1), reason="cell_too_large", detail="67,108,865 bytes")


@case(CASES, 23, "poison")
def _(root: Path) -> None:
    # with Ray: tests/jobs/test_poisoned_jobs.py
    path = write(root / "t.tsv", table(GOOD, GOOD, LAST))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAINTER_ENABLE_FAULTS", "1")
        patch.setenv("PAINTER_POISON", "2:exit")
        rejected(run(path, in_child=True), "worker_crash", "exit code 9, 2 times")


# the share of identical code rows (W) is said by jobs/inspect_table.py: tests/stages/test_inspect.py
cells(24, "blank-pictures", *[encoded(plain((255, 255, 255)))] * 3)


@pytest.mark.parametrize("check", CASES)
def test_case(check: Callable[[Path], None], tmp_path: Path) -> None:
    check(tmp_path)
