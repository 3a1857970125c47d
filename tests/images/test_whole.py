"""Pictures of other formats that end properly but lack data; and metadata that no picture is judged by."""

import io
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from painter_core.errors import Reject
from painter_core.images.decode import decode_image
from painter_core.images.whole import load
from tests.images.test_jpeg import HEIGHT, WIDTH, as_pillow_reads, scene
from tests.support.catalogue import encoded
from tests.support.jobs import ROOT

MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "I;16")
INK = (165, 38, 219, 76)  # what unwritten rows are recognised by


def in_mode(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(scene().convert("L")).astype(np.uint16) * 257)
    return scene().convert(mode)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def with_data(png: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A PNG whose lines, unpacked, are changed."""
    packed = b"".join(data for name, data in chunks(png) if name == b"IDAT")
    new = chunk(b"IDAT", zlib.compress(change(zlib.decompress(packed))))
    others = [(name, chunk(name, data)) for name, data in chunks(png) if name != b"IDAT"]
    return png[:8] + b"".join(new + data if name == b"IEND" else data for name, data in others)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("missing", [1, 2, HEIGHT // 2, HEIGHT - 1])
def test_a_png_of_too_few_lines(mode: str, missing: int) -> None:
    """Its stream is whole, its sums are right; the lines that it lacks would be black or clear."""
    png = encoded(in_mode(mode))
    short = with_data(png, lambda lines: lines[: -missing * (len(lines) // HEIGHT)])
    assert as_pillow_reads(short).shape[:2] == (HEIGHT, WIDTH)
    with pytest.raises(
        Reject, match=r"^img_truncated: PNG 90x75, .* bytes: its data ends before its last row"
    ):
        decode_image(short, 32)
    assert decode_image(with_data(png, lambda lines: lines), 32).any()
    assert decode_image(with_data(png, lambda lines: lines + bytes(500)), 32).any()


def interlaced(pixels: np.ndarray, passes: int = 7) -> bytes:
    """A grey PNG in so many of Adam7's passes."""
    grids = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    lines = [b"\0" + row.tobytes() for y, x, dy, dx in grids[:passes] for row in pixels[y::dy, x::dx]]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 1)
    data = chunk(b"IDAT", zlib.compress(b"".join(lines)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("height", [HEIGHT, HEIGHT + 1, HEIGHT + 2, HEIGHT + 3])
def test_an_interlaced_png(height: int) -> None:
    pixels = np.asarray(scene(1, WIDTH, height).convert("L"))
    np.testing.assert_array_equal(as_pillow_reads(interlaced(pixels)), pixels)
    whole = decode_image(interlaced(pixels), height)
    left = (WIDTH - height) // 2
    np.testing.assert_array_equal(whole[:, :, 0], pixels[:, left : left + height])
    with pytest.raises(Reject, match="its data ends before its last row"):
        decode_image(interlaced(pixels, passes=6), 32)


@pytest.mark.parametrize("mode", MODES)
def test_sound_pngs_are_as_pillow_reads_them(mode: str) -> None:
    """Those too that end in the very colour by which unwritten rows are recognised."""
    for picture in (in_mode(mode), Image.new(mode, (20, 20))):
        bands = len(picture.getbands())
        marked = picture.copy()
        marked.paste(INK[0] if bands == 1 else INK[:bands], (0, 0, *marked.size))
        for image in (encoded(picture), encoded(marked)):
            opened, notes = Image.open(io.BytesIO(image)), Counter[str]()
            load(opened, image, notes)
            np.testing.assert_array_equal(np.asarray(opened), as_pillow_reads(image))
            assert opened.info == Image.open(io.BytesIO(image)).info
            assert not notes


def webp_of(name: bytes, data: bytes) -> bytes:
    payload = b"WEBP" + name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


def cut_webp(image: bytes, kept: float) -> bytes:
    length = int.from_bytes(image[16:20], "little")
    return webp_of(image[12:16], image[20 : 20 + int(kept * length)])


def cut_gif(image: bytes, kept: float) -> bytes:
    start = image.rindex(b"\x2c\0\0\0\0") + 11  # behind the size of the codes
    data, at = b"", start
    while image[at]:
        data, at = data + image[at + 1 : at + 1 + image[at]], at + 1 + image[at]
    data = data[: int(kept * len(data))]
    blocks = [bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255)]
    return image[:start] + b"".join(blocks) + b"\0\x3b"


def rle_bmp(rows: np.ndarray, height: int, ended: bytes) -> bytes:
    """An 8-bit BMP in runs of length 1, its rows from the last one up."""
    data = b"".join(b"".join(bytes([1, v]) for v in row) + b"\0\0" for row in rows[::-1]) + ended
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    sizes = struct.pack("<IiiHHIIiiII", 40, rows.shape[1], height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(data), 0, 0, 1078) + sizes + palette + data


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.97])
def test_other_formats_that_were_cut_and_closed(kept: float) -> None:
    """Pillow's own judgement, which is right here."""
    grey = np.asarray(scene().convert("L"))
    cut = {
        "webp": cut_webp(encoded(scene(), "WEBP"), kept),
        "webp lossless": cut_webp(encoded(scene(), "WEBP", lossless=True), kept),
        "gif": cut_gif(encoded(scene().convert("P"), "GIF"), kept),
        "bmp": encoded(scene(), "BMP")[: int(54 + kept * 3 * WIDTH * HEIGHT)],
        "bmp in runs": rle_bmp(grey[: int(kept * HEIGHT)], HEIGHT, b""),
        "bmp in runs that says its end": rle_bmp(grey[: int(kept * HEIGHT)], HEIGHT, b"\0\1"),
    }
    for image in cut.values():
        with pytest.raises(Reject, match=r"^img_truncated"):
            decode_image(image, 32)
    whole = (
        cut_webp(encoded(scene(), "WEBP"), 1),
        cut_gif(encoded(scene().convert("P"), "GIF"), 1),
        rle_bmp(grey, HEIGHT, b"\0\1"),
    )
    assert all(decode_image(image, 32).any() for image in whole)


# --- metadata ----------------------------------------------------------------------------------------


def text(name: str, content: bytes, *, packed: bool = False) -> bytes:
    """A PNG with a text chunk."""
    info = PngImagePlugin.PngInfo()
    if name == "iTXt":
        info.add_itxt("key", content, zip=packed)
    else:
        info.add_text("key", content, zip=packed)
    return encoded(scene(), pnginfo=info)


NOISE = np.random.RandomState(0).bytes(3 * 2**20)
LETTERS = (b"0123456789abcdef" * 2**18)[: 3 * 2**20]


@pytest.mark.parametrize(
    "image",
    [
        encoded(scene(), icc_profile=NOISE),
        encoded(scene(), icc_profile=bytes(15 * 2**20)),
        text("tEXt", LETTERS),
        text("zTXt", LETTERS, packed=True),
        text("iTXt", LETTERS),
        text("iTXt", LETTERS, packed=True),
        encoded(scene(), exif=b"Exif\0\0MM\0*" + NOISE),
    ],
    ids=["profile", "profile of 15 MiB", "tEXt", "zTXt", "iTXt", "packed iTXt", "exif"],
)
def test_a_png_with_much_metadata_is_read(image: bytes) -> None:
    np.testing.assert_array_equal(decode_image(image, 32), decode_image(encoded(scene()), 32))


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
def test_others_with_much_metadata_are_read(image_format: str) -> None:
    image = encoded(scene(), image_format, icc_profile=NOISE[: 2 * 2**20])
    np.testing.assert_array_equal(decode_image(image, 32), decode_image(encoded(scene(), image_format), 32))


BOMBS = """
import sys, zlib
from PIL import Image
from painter_core.errors import Reject
from painter_core.images.decode import decode_image
from tests.images.test_whole import chunk, encoded, scene

def peak():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) // 1024

sound = encoded(scene())
decode_image(sound, 32)
before = peak()
zeros = zlib.compress(bytes(200 * 2**20))
small = zlib.compress(b"a" * (15 * 2**20))
bombs = {
    "profile": chunk(b"iCCP", b"k\\0\\0" + zeros),
    "text": chunk(b"zTXt", b"k\\0\\0" + zeros),
    "international text": chunk(b"iTXt", b"k\\0\\1\\0\\0\\0" + zeros),
    "many texts": b"".join(chunk(b"zTXt", b"k%d\\0\\0" % i + small) for i in range(50)),
}
start = peak()
for name, bomb in bombs.items():
    for at in (33, len(sound) - 12):  # before the pixels, behind them
        try:
            print(name, decode_image(sound[:at] + bomb + sound[at:], 32).shape)
        except Reject as error:
            print(name, error.reason)
print(peak() - start)
"""


@pytest.mark.long
def test_metadata_that_unpacks_to_more_stays_small() -> None:
    command = [sys.executable, "-c", BOMBS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    *lines, grown = done.stdout.splitlines()
    assert {line.rpartition(" ")[2] for line in lines} == {"img_truncated"}, lines
    assert len(lines) == 8
    assert int(grown) < 200, f"{grown} MB"
