"""Encoded pictures to pixels and back.

cell (base64 text or bytes) -> image (encoded bytes) -> uint8 (S, S, 3) -> pixels float32 (B, 3, S, S) in [-1, 1].
Everything that can be wrong with a cell raises Reject with a reason of schemas.rejects.
"""

import base64
import binascii
import io
import re
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from painter_core.rejects import Reject

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # an allow-list: Pillow would also start Ghostscript for EPS
MAX_CELL_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000  # Pillow itself only warns at 89 million
MIN_SIDE_PX = 16
MAX_ASPECT = 20

Resize = Literal["bilinear", "antialias"]
Alpha = Literal["white", "drop"]

_WHITESPACE = " \t\r\n\v\f"
_DATA_URI = re.compile(r"data:[\w.+/-]*(?:;[\w.+=-]+)*;base64,", re.ASCII)
_URL_OR_PATH = re.compile(r"[a-z][a-z0-9+]*://|[^\s]*\.(?:jpe?g|png|webp|gif|bmp)$", re.IGNORECASE)
_TO_STANDARD = str.maketrans("-_", "+/")


def image_of_cell(cell: str | bytes | None) -> bytes:
    """The encoded picture in a table's cell: bytes are taken as they are, text as base64.

    Base64 in either alphabet, with or without padding, in one line or several, with a `data:` prefix or none.
    EasyNLP's urlsafe_b64decode drops every byte outside the alphabet silently; here that is a Reject.
    """
    if not cell:
        raise Reject("img_empty", "no bytes")
    if len(cell) > MAX_CELL_BYTES:
        raise Reject("cell_too_large", f"{len(cell):,} bytes, at most {MAX_CELL_BYTES:,}")
    if isinstance(cell, bytes):
        return cell
    text = cell.strip(_WHITESPACE)
    if not text:
        raise Reject("img_empty", "only white space")
    if text[:2] in ("b'", 'b"', "['", '["'):
        raise Reject(
            "b64_repr", f"starts with {text[:8]!r}: write the base64 itself, b64encode(...).decode()"
        )
    if _URL_OR_PATH.match(text[:2048]):
        raise Reject("img_unidentified", f"looks like a URL or a path: {text[:60]!r}")
    if prefix := _DATA_URI.match(text):
        text = text[prefix.end() :]
    return _decode_base64(re.sub(r"[\r\n\t]", "", text))


def _decode_base64(text: str) -> bytes:
    if ("-" in text or "_" in text) and ("+" in text or "/" in text):
        raise Reject("b64_mixed", "both -_ and +/ occur")
    body = text.translate(_TO_STANDARD)
    data = body.rstrip("=")
    if "=" in data:
        at = data.index("=")
        raise Reject("b64_trailing", f"{len(body) - at:,} characters follow the padding at {at:,}")
    try:
        if len(data) % 4 == 1:
            raise binascii.Error(f"{len(data):,} characters: one is missing or one too many")
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except ValueError as error:  # binascii.Error, or its parent for characters outside ASCII
        hint = "; spaces inside: a form may have turned + into space" if " " in data else ""
        raise Reject("b64_invalid", f"{error}{hint}") from None


def decode_image(image: bytes, size: int, resize: Resize = "bilinear", alpha: Alpha = "white") -> np.ndarray:
    """Encoded bytes -> uint8 (size, size, 3): RGB, shorter side resized to `size`, centre cut out.

    Args:
        image: JPEG, PNG, WebP, GIF (first frame) or BMP. EXIF orientation is ignored, as in EasyNLP.
        size: side of the result in pixels.
        resize: `bilinear` is EasyNLP's transform (four neighbours, no antialiasing, as OpenCV's INTER_LINEAR);
            `antialias` is Pillow's bicubic filter with support scaled to the reduction.
        alpha: what lies under transparent pixels: `white`, or `drop` for the hidden colour, as in EasyNLP.

    Raises:
        Reject: the picture cannot be used.
    """
    rgb = _load_rgb(image, alpha)
    if resize == "antialias":
        side = min(rgb.size)
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(rgb.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return _resize_bilinear(np.asarray(rgb), size)


def _load_rgb(image: bytes, alpha: Alpha) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(image), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(image) from None
    except Image.DecompressionBombError as error:
        raise Reject("img_too_large", str(error)) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's header parsers raise
        raise Reject("img_truncated", f"{type(error).__name__}: {error}") from None
    width, height = picture.size
    what = f"{picture.format} {width}x{height}"
    if width * height > MAX_PIXELS:
        raise Reject("img_too_large", f"{what}, at most {MAX_PIXELS:,} pixels")
    if min(width, height) < MIN_SIDE_PX:
        raise Reject("img_too_small", f"{what}, at least {MIN_SIDE_PX} pixels a side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Reject("img_aspect", f"{what}, at most {MAX_ASPECT}:1")
    try:
        picture.load()
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:  # damaged data
        raise Reject("img_truncated", f"{what}, {len(image):,} bytes: {error}") from None
    try:
        return _to_rgb(picture, alpha)
    except (OSError, ValueError) as error:
        raise Reject("img_mode", f"{what} mode {picture.mode}: {error}") from None


def _unidentified(image: bytes) -> Reject:
    if image[:4] in (b"%!PS", b"II*\0", b"MM\0*", b"8BPS", b"%PDF", b"\0\0\0\x0c") or image[4:8] == b"ftyp":
        return Reject("img_format", f"starts with {image[:12]!r}; accepted: {', '.join(FORMATS)}")
    return Reject("img_unidentified", f"starts with {image[:16]!r}")


def _to_rgb(picture: Image.Image, alpha: Alpha) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # convert("RGB") would clip 16-bit grey to white
        grey = np.asarray(picture).astype(np.uint32) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if alpha == "white" and (picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info):
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert("RGB")


def _resize_bilinear(rgb: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (size, size, 3); only the part that the centre crop keeps is computed."""
    height, width = rgb.shape[:2]
    scale = size / min(height, width)
    y0, y1, wy = _taps(height, round(height * scale), size)
    x0, x1, wx = _taps(width, round(width * scale), size)
    # the columns that the crop can touch, then rows, then columns: the cheap order for wide pictures
    lines = rgb[:, x0[0] : x1[-1] + 1]
    rows = lines[y0] + (lines[y1].astype(np.float32) - lines[y0]) * wy[:, None, None]  # (size, W', 3)
    left, right = rows[:, x0 - x0[0]], rows[:, x1 - x0[0]]
    return np.rint(left + (right - left) * wx[None, :, None]).clip(0, 255).astype(np.uint8)


def _taps(length: int, resized: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source positions below and above each kept target position, and the weight of the one above."""
    target = np.arange(size) + (resized - size) // 2
    source = np.clip((target + 0.5) * (length / resized) - 0.5, 0, length - 1)
    below = np.floor(source).astype(np.int64)
    return below, np.minimum(below + 1, length - 1), (source - below).astype(np.float32)


def to_pixels(batch: np.ndarray) -> Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S) in [-1, 1]."""
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_uint8(pixels: Tensor) -> np.ndarray:
    """Float (B, 3, S, S) about [-1, 1] -> uint8 (B, S, S, 3): clipped and truncated, as EasyNLP does."""
    scaled = (pixels.float() + 1.0).mul_(127.5).clamp_(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def encode_image(picture: np.ndarray, image_format: Literal["png", "webp", "jpeg"] = "png") -> bytes:
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
