"""Encoded pictures to uint8 (S, S, 3), and back.

Without torch, which the processes that decode do not need (pixels.py). Everything that can be wrong with a
picture raises Reject with a reason of schemas.rejects.
"""

import io
import struct
import zlib
from collections import Counter
from typing import Literal

import numpy as np
from PIL import AvifImagePlugin, Image, PngImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from painter_core.errors import Reject
from painter_core.images.resize import resize_bilinear
from painter_core.images.whole import load

# An allow-list: Pillow would also start Ghostscript for EPS. AVIF is on it since shops use it now;
# libavif refuses frames above 16,384 x 16,384, also where the header says that the picture is smaller.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
MAX_PIXELS = 50_000_000  # Pillow itself only warns at 89 million
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20  # unpacked; Pillow's own 1 MiB is less than some ICC profiles have
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a worker has one CPU; by default one a CPU
MIN_SIDE_PX = 16
MAX_ASPECT = 20
Resize = Literal["bilinear", "antialias"]
Alpha = Literal["white", "drop"]
ImageFormat = Literal["png", "webp", "jpeg"]
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")
_OTHER_MAGIC = (
    *(b"%!PS", b"%PDF", b"II*\0", b"MM\0*", b"8BPS", b"SIMPLE  =", b"\0\0\1\0"),
    *(b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51", b"\0\0\0\x0cJXL", b"\xff\x0a"),
)
# What Pillow's parsers raise on damaged bytes. AttributeError and NameError are bugs, and stop the job.
_DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError),
    *(struct.error, zlib.error, RuntimeError),  # the last of libavif
)


def decode_image(
    image: bytes,
    size: int,
    resize: Resize = "bilinear",
    alpha: Alpha = "white",
    notes: Counter[str] | None = None,
) -> np.ndarray:
    """Encoded bytes -> uint8 (size, size, 3): RGB, shorter side resized to `size`, centre cut out.

    Args:
        image: JPEG, PNG, WebP, GIF (first frame), BMP or AVIF. EXIF orientation and profiles are ignored, as
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
    return cropped(load_rgb(image, alpha, notes), size, resize)


def cropped(rgb: Image.Image, size: int, resize: Resize) -> np.ndarray:
    """A picture as uint8 (size, size, 3): shorter side resized to `size`, centre cut out."""
    if resize == "antialias":
        side = min(rgb.size)
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(rgb.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return resize_bilinear(rgb, size)


def load_rgb(image: bytes, alpha: Alpha = "white", notes: Counter[str] | None = None) -> Image.Image:
    """Encoded bytes -> RGB in the picture's own size; arguments and Reject as for decode_image."""
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
        load(picture, image, notes)
    except _DAMAGED as error:
        raise Reject("img_truncated", f"{what}, {len(image):,} bytes: {error}") from None
    try:
        rgb = _to_rgb(picture, alpha)
    except _DAMAGED as error:
        raise Reject("img_mode", f"{what} mode {picture.mode}: {error}") from None
    if notes is not None and _is_animated(picture):
        notes["animated_first_frame"] += 1
    return rgb


def _open(image: bytes) -> ImageFile:
    try:
        return Image.open(io.BytesIO(image), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(image) from None
    except Image.DecompressionBombError as error:
        raise Reject("img_too_large", str(error)) from None
    except _DAMAGED as error:
        raise Reject("img_truncated", f"in the header, {type(error).__name__}: {error}") from None


def format_of(image: bytes) -> str:
    """The format of a picture that was loaded before: one of FORMATS."""
    return _open(image).format or ""


def _unidentified(image: bytes) -> Reject:
    shown = f"starts with {image[:16]!r}"
    if image.startswith(_MAGIC) or (image[:4], image[8:12]) == (b"RIFF", b"WEBP"):
        return Reject("img_truncated", f"{shown}, {len(image):,} bytes: the header is damaged")
    if image[4:8] == b"ftyp" and image[8:12] in (b"avif", b"avis"):
        return Reject("img_truncated", f"{shown}, {len(image):,} bytes: it is cut, damaged or too large")
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
