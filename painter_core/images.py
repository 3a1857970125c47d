"""Encoded pictures to uint8 and back; without torch, which the processes that decode do not need (pixels.py).

cell (base64 text or bytes) -> image (encoded bytes) -> uint8 (S, S, 3).
Everything that can be wrong with a cell raises Reject with a reason of schemas.rejects.
"""

import binascii
import contextlib
import io
import re
import string
import struct
import zlib
from collections import Counter
from typing import Literal

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from painter_core.rejects import Reject
from schemas.pairs import MAX_CELL_BYTES

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # an allow-list: Pillow would also start Ghostscript for EPS
MAX_PIXELS = 50_000_000  # Pillow itself only warns at 89 million
MIN_SIDE_PX = 16
MAX_ASPECT = 20

Resize = Literal["bilinear", "antialias"]
Alpha = Literal["white", "drop"]
ImageFormat = Literal["png", "webp", "jpeg"]

_WHITESPACE = b" \t\r\n\v\f"
_DATA_URI = re.compile(rb"data:[\w.+/-]*(?:;[\w.+=-]+)*;base64,", re.IGNORECASE)
_REPR = (b"b'", b'b"', b"['", b'["')
_URL_OR_PATH = re.compile(rb"[a-z][a-z0-9+]*://|[^\s]*\.(?:jpe?g|png|webp|gif|bmp)$", re.IGNORECASE)
_BASE64_TEXT = re.compile(rb"\s*(?:data:|[A-Za-z0-9+/_-]{16})")
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/]")
_ALPHABET = string.ascii_letters.encode() + string.digits.encode() + b"+/"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")
_OTHER_MAGIC = (
    *(b"%!PS", b"%PDF", b"II*\0", b"MM\0*", b"8BPS", b"SIMPLE  =", b"\0\0\1\0"),
    *(b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51", b"\0\0\0\x0cJXL", b"\xff\x0a"),
)
# What Pillow's parsers raise on damaged bytes. AttributeError and NameError are bugs, and stop the job.
_DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError),
    *(struct.error, zlib.error),
)
_WEIGHT_BITS = 11  # OpenCV's fixed point


def image_of_cell(cell: str | bytes | None, notes: Counter[str] | None = None) -> bytes:
    """The encoded picture in a table's cell: text is base64, bytes are the picture itself or base64.

    Base64 in either alphabet, with or without padding, in one line or several, with a `data:` prefix or none.
    EasyNLP's urlsafe_b64decode drops every byte outside the alphabet silently; here that is a Reject.

    Args:
        notes: counts what was put right, by names of schemas.rejects.WARNINGS.
    """
    if not cell:
        raise Reject("img_empty", "no bytes")
    if len(cell) > MAX_CELL_BYTES:
        raise Reject("cell_too_large", f"{len(cell):,} bytes, at most {MAX_CELL_BYTES:,}")
    if isinstance(cell, bytes):
        # a binary column may hold base64; no picture begins with 16 letters
        return _image_of_text(cell, notes) if _BASE64_TEXT.match(cell) else cell
    return _image_of_text(cell.encode("utf-8", "surrogatepass"), notes)


def _image_of_text(text: bytes, notes: Counter[str] | None) -> bytes:
    text = text.strip(_WHITESPACE)
    if text.startswith(_REPR):
        shown = text[:8].decode("ascii", "replace")
        raise Reject("b64_repr", f"starts with {shown!r}: write the base64 itself, b64encode(...).decode()")
    if _URL_OR_PATH.match(text[:2048]):
        shown = text[:60].decode("utf-8", "replace")
        raise Reject("img_unidentified", f"looks like a URL or a path: {shown!r}")
    if prefix := _DATA_URI.match(text):
        text = text[prefix.end() :].lstrip(_WHITESPACE)
        _note(notes, "b64_data_uri")
    if (b"-" in text or b"_" in text) and (b"+" in text or b"/" in text):
        raise Reject("b64_mixed", "both -_ and +/ occur")
    image = _decode_base64(text.translate(_TO_STANDARD, b"\r\n\t"), notes)
    if not image:
        raise Reject("img_empty", "no base64, only white space or a prefix")
    return image


def _decode_base64(body: bytes, notes: Counter[str] | None) -> bytes:
    data = body.rstrip(b"=")
    if b"=" in data:
        at = data.index(b"=")
        raise Reject("b64_trailing", f"{len(body) - at:,} characters follow the padding at {at:,}")
    if data.translate(None, _ALPHABET):
        raise _foreign(data)
    if len(data) % 4 == 1:
        raise Reject("b64_invalid", f"{len(data):,} characters: one is missing or one too many")
    if len(body) % 4:
        _note(notes, "b64_padding")
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def _foreign(data: bytes) -> Reject:
    found = _FOREIGN.search(data)
    assert found is not None
    at = found.start()
    character = data[at : at + 4].decode("utf-8", "replace")[0]
    hint = "; a form may have turned + into space" if character == " " else ""
    return Reject("b64_invalid", f"{character!r} at byte {at:,} is not base64{hint}")


def _note(notes: Counter[str] | None, name: str) -> None:
    if notes is not None:
        notes[name] += 1


def decode_image(
    image: bytes,
    size: int,
    resize: Resize = "bilinear",
    alpha: Alpha = "white",
    notes: Counter[str] | None = None,
) -> np.ndarray:
    """Encoded bytes -> uint8 (size, size, 3): RGB, shorter side resized to `size`, centre cut out.

    Args:
        image: JPEG, PNG, WebP, GIF (first frame) or BMP. EXIF orientation and colour profiles are ignored, as
            in EasyNLP.
        size: side of the result in pixels.
        resize: `bilinear` is EasyNLP's transform (four neighbours, no antialiasing), equal to OpenCV's
            INTER_LINEAR to the last bit; `antialias` is Pillow's bicubic filter, its support scaled to the
            reduction.
        alpha: what lies under transparent pixels: `white`, or `drop` for the hidden colour, as in EasyNLP.
        notes: counts what was put right, by names of schemas.rejects.WARNINGS.

    Raises:
        Reject: the picture cannot be used.
    """
    rgb = _load_rgb(image, alpha, notes)
    if resize == "antialias":
        side = min(rgb.size)
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(rgb.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return _resize_bilinear(rgb, size)


def _load_rgb(image: bytes, alpha: Alpha, notes: Counter[str] | None) -> Image.Image:
    picture = _open(image)
    width, height = picture.size
    what = f"{picture.format} {width}x{height}"
    if width * height > MAX_PIXELS:
        raise Reject("img_too_large", f"{what}, at most {MAX_PIXELS:,} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Reject("img_aspect", f"{what}, at most {MAX_ASPECT}:1")
    if min(width, height) < MIN_SIDE_PX:
        raise Reject("img_too_small", f"{what}, at least {MIN_SIDE_PX} pixels a side")
    try:
        picture.load()
    except _DAMAGED as error:
        raise Reject("img_truncated", f"{what}, {len(image):,} bytes: {error}") from None
    try:
        rgb = _to_rgb(picture, alpha)
    except _DAMAGED as error:
        raise Reject("img_mode", f"{what} mode {picture.mode}: {error}") from None
    if notes is not None and _is_animated(picture):
        notes["animated_first_frame"] += 1
    return rgb


def _open(image: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(image), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(image) from None
    except Image.DecompressionBombError as error:
        raise Reject("img_too_large", str(error)) from None
    except _DAMAGED as error:
        raise Reject("img_truncated", f"in the header, {type(error).__name__}: {error}") from None


def _unidentified(image: bytes) -> Reject:
    shown = f"starts with {image[:16]!r}"
    if image.startswith(_MAGIC) or (image[:4], image[8:12]) == (b"RIFF", b"WEBP"):
        return Reject("img_truncated", f"{shown}, {len(image):,} bytes: the header is damaged")
    if image.startswith(_OTHER_MAGIC) or image[4:8] == b"ftyp" or b"<svg" in image[:512]:
        return Reject("img_format", f"{shown}; accepted: {', '.join(FORMATS)}")
    return Reject("img_unidentified", shown)


def _is_animated(picture: Image.Image) -> bool:
    try:
        return bool(getattr(picture, "is_animated", False))
    except _DAMAGED:
        return False  # the second frame is damaged; the first was read


def _to_rgb(picture: Image.Image, alpha: Alpha) -> Image.Image:
    transparent = picture.info.get("transparency")
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # convert("RGB") would clip 16-bit grey to white
        wide = np.asarray(picture).astype(np.int64)
        grey = (wide >> 8).clip(0, 255).astype(np.uint8)
        if alpha == "white" and isinstance(transparent, int):
            grey[wide == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if alpha == "white" and (picture.mode in ("RGBA", "LA", "PA") or transparent is not None):
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert("RGB")


def _resize_bilinear(rgb: Image.Image, size: int) -> np.ndarray:
    """RGB (H, W) -> uint8 (size, size, 3), in OpenCV's fixed point; only what the crop keeps is computed."""
    width, height = rgb.size
    scale = size / min(height, width)
    if scale == 1:
        left, top = (width - size) // 2, (height - size) // 2
        return np.asarray(rgb.crop((left, top, left + size, top + size)))
    y0, y1, wy0, wy1 = _taps(height, round(height * scale), size)
    x0, x1, wx0, wx1 = _taps(width, round(width * scale), size)
    lines, channels = _lines(rgb)  # (H, W * channels): a gather of single bytes is the fastest
    left_bytes, right_bytes = ((x[:, None] * channels + np.arange(3)).ravel() for x in (x0, x1))
    wx0, wx1 = wx0.repeat(3), wx1.repeat(3)

    def weighted(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """int32 (size, size * 3) in quarter levels: rows interpolated across, times their weight."""
        picked = lines[rows]
        mixed = picked.take(left_bytes, axis=1) * wx0
        mixed += picked.take(right_bytes, axis=1) * wx1
        mixed >>= 4
        mixed *= weight[:, None]
        mixed >>= 16
        return mixed

    mixed = weighted(y0, wy0)
    mixed += weighted(y1, wy1)
    mixed += 2
    mixed >>= 2
    return mixed.astype(np.uint8).reshape(size, size, 3)


def _lines(rgb: Image.Image) -> tuple[np.ndarray, int]:
    """uint8 (H, W * channels) of an RGB picture, and its channels: 4 if Pillow's own memory can be seen."""
    width, height = rgb.size
    if hasattr(rgb, "__arrow_c_array__"):
        with contextlib.suppress(ValueError):  # above 16 MiB it is not in one piece
            return pa.array(rgb).flatten().to_numpy().reshape(height, width * 4), 4
    return np.asarray(rgb).reshape(height, width * 3), 3


def _taps(length: int, resized: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Source positions below and above each kept target position, and their weights of 2048 (int32)."""
    target = np.arange(size) + (resized - size) // 2
    source = ((target + 0.5) * (1 / (resized / length)) - 0.5).astype(np.float32)
    below = np.floor(source)
    above = source - below  # float32, as in OpenCV: the weights are rounded from it
    unit = np.float32(2**_WEIGHT_BITS)
    weights = (np.rint((1 - above) * unit).astype(np.int32), np.rint(above * unit).astype(np.int32))
    first = below.astype(np.int32)
    return first.clip(0, length - 1), (first + 1).clip(0, length - 1), *weights


def encode_image(picture: np.ndarray, image_format: ImageFormat = "png") -> bytes:
    """uint8 (S, S, 3) -> encoded bytes; png and webp are lossless, jpeg has quality 90."""
    out = io.BytesIO()
    image = Image.fromarray(picture)
    if image_format == "png":
        image.save(out, "PNG", compress_level=1)  # 2.5 times as fast as the default for 12 % more bytes
    elif image_format == "webp":
        image.save(out, "WEBP", lossless=True, method=0)
    else:
        image.save(out, "JPEG", quality=90)
    return out.getvalue()
