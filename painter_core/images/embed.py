"""An encoded picture as a page carries it: a data: URI of a format that browsers show.

Pictures come from tables and are not trusted: one reaches a page only after Pillow took it for one of the
allowed formats.
"""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from painter_core.images.decode import FORMATS, MAX_PIXELS

SHOWN_BY_BROWSERS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
THUMBNAIL_PX = 512  # twice the widest a picture is laid out
KEEP_BYTES = 32 * 1024  # a picture above this is embedded as a WebP thumbnail
PIXELATED_UP_TO_PX = 128  # pictures this small are enlarged, and their pixels are to be seen


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What a page needs of a picture."""

    uri: str
    width: int
    height: int
    is_pixelated: bool
    """Whether its single pixels are to be seen."""


def embed(image: bytes) -> Embedded:
    """A picture for a page: as it is, or a thumbnail of one that is large or that browsers do not show.

    Raises:
        ValueError: it cannot be shown.
    """
    try:
        # Width, height and format stand in the header; the pixels are not decoded here.
        with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
            width, height, image_format = *picture.size, picture.format or ""
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width}x{height} pixels, at most {MAX_PIXELS:,} in all")
            fits = max(width, height) <= THUMBNAIL_PX and len(image) <= KEEP_BYTES
            # Exif may say where and by whom a photograph was taken: no part of what is passed on.
            if fits and image_format in SHOWN_BY_BROWSERS and "exif" not in picture.info:
                media_type = SHOWN_BY_BROWSERS[image_format]
            else:
                image, (width, height) = _thumbnail(picture)
                media_type = SHOWN_BY_BROWSERS["WEBP"]
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
    return Embedded(
        uri=f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}",
        width=width,
        height=height,
        is_pixelated=max(width, height) <= PIXELATED_UP_TO_PX,
    )


def _thumbnail(picture: Image.Image) -> tuple[bytes, tuple[int, int]]:
    """A WebP of at most KEEP_BYTES, as large as they allow, and its size."""
    small = picture.convert("RGB")
    side = THUMBNAIL_PX
    while True:
        small.thumbnail((side, side))  # keeps the aspect, never enlarges
        encoded = io.BytesIO()
        small.save(encoded, "WEBP", quality=88)
        if encoded.tell() <= KEEP_BYTES:  # 64 x 64 pixels always are
            return encoded.getvalue(), small.size
        side = side * 3 // 4
