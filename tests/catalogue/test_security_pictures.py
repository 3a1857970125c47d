"""The security list: pictures that are bombs, and the formats that are read at all (S2, T23)."""

import io
import resource
import subprocess
import sys

import pytest
from PIL import Image

from painter_core.errors import Reject
from painter_core.images.decode import FORMATS, decode_image

# an AVIF of 8,000 x 8,000 grey pixels whose header says 64 x 64; libavif decodes it and makes it smaller
LYING_AVIF = """
eNpjYGCQSSupLEgsy0xjAAIQnZuZZpibmQjiv8xNLUlkgADFjJScIiiboSAzuYQBDfAVZJbkglmMQCyXmZOfDOK4gPiMEFFGXiD+
AmRrZGbmpcHVSgE5qUxQXmKZgaFzfk4+2K6MzIKiAiDtmVmQnA+kRTKLC1Kh9jlAMdDeikywZg4gwZNYZujcKC8DEhBOzs8pykvO
qQCay8vA1gAUEs8syIX5COgsFkamZhYg609uSmKJEAMXl/xnu/rP32ZwZJgaPWaW8HG9e9lHJ4fB8vwpHe8tr90V7DRWrVL3z9A1
fbD4xqM1AZcq9Csd2k8XaLk1sGtJTA3p+2DZfuBX5dfpoht9AzK03LUmJVidP+XS/5bn6wnmX0KyDiEt9/7kf/ycuGvb/n0CR/8J
/OiQ8RZMqdJqavr2LWr2/W87w7oUTuzoP2jS7bT7SC4lei1w6z12gzHvuN79JKtdL5fwXn79i7XihI1x9QvzYiXT+0997CiwNWOg
9JLrWQsA7VU1UA==
"""

HOSTILE_PICTURES = (
    f"""
LYING_AVIF = {LYING_AVIF.strip().splitlines()}
"""
    + """
import base64, io, resource, struct, sys, zlib
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
from PIL import Image
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import decode_image
from painter_core.errors import Reject

def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

def png(width, height, *chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\\x89PNG\\r\\n\\x1a\\n" + header + b"".join(chunks) + chunk(b"IEND", b"")

def saved(picture, image_format, **options):
    out = io.BytesIO()
    picture.save(out, image_format, **options)
    return out.getvalue()

zeros = zlib.compress(bytes(200 * 2**20))
pixels = chunk(b"IDAT", zlib.compress(bytes(64 * 193)))
sides = (2**31 - 1, 2**31 - 1)
cells = {
    "60,000 x 60,000": png(60000, 60000, chunk(b"IDAT", zeros)),
    "more data than pixels": png(64, 64, chunk(b"IDAT", zeros)),
    "a bomb of text": png(64, 64, chunk(b"zTXt", b"k\\0\\0" + zeros), pixels),
    "a bomb of a profile": png(64, 64, chunk(b"iCCP", b"k\\0\\0" + zeros), pixels),
    "1 x 20,000": saved(Image.new("1", (1, 20000)), "PNG"),
    "GIF of 65,535 x 65,535": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",",
    "BMP of 2**31": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, *sides, 1, 24, *[0] * 6),
    "an AVIF that lies": zlib.decompress(base64.b64decode("".join(LYING_AVIF))),
    "49 million pixels": saved(Image.new("L", (7000, 7000)), "PNG"),
    "a cell of 64 MB": bytes(64 * 2**20 + 1),
}
for name, cell in cells.items():
    try:
        print(name, "->", decode_image(image_of_cell(cell), 256).shape)
    except Reject as error:
        print(name, "->", error.reason)
# ru_maxrss would be at least that of the process that started this one
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024)
"""
)


def test_s2_t23_bombs_stay_small() -> None:
    """Under RLIMIT_AS of 2 GiB, of which the interpreter and its libraries take a part."""
    command = [sys.executable, "-c", HOSTILE_PICTURES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, peak = done.stdout.splitlines()
    found = dict(line.split(" -> ") for line in lines)
    assert found["60,000 x 60,000"] == "img_too_large"
    assert found["1 x 20,000"] == "img_aspect"
    assert found["a cell of 64 MB"] == "cell_too_large"
    assert found["49 million pixels"] == "(256, 256, 3)"
    reasons = {"img_truncated", "img_too_large", "img_unidentified", "img_mode", "(256, 256, 3)"}
    assert set(found.values()) <= reasons | {"img_aspect", "cell_too_large"}
    assert int(peak) < 1000, f"{peak} MB"


def test_s2_formats_are_a_list() -> None:
    assert FORMATS == ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
    for other in ("EPS", "TIFF", "PDF", "ICO", "PPM", "TGA"):
        out = io.BytesIO()
        Image.new("RGB", (64, 64)).save(out, other)
        with pytest.raises(Reject, match=r"img_format|img_unidentified"):
            decode_image(out.getvalue(), 32)


def test_limits_are_those_of_this_process_only() -> None:
    """The bombs above run in a process of their own."""
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
