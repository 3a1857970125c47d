"""Loading a picture, and whether its data reaches its last pixel.

A picture may end properly and yet lack data: a JPEG that was cut and closed again, by the markers of its end
or by another one's beginning, or a PNG whose compressed stream is too short. Decoders fill up with grey or
black and go on, and Pillow keeps their warnings to itself. docs/REJECTS.md says what is not found.
"""

import io
from collections import Counter

from PIL import Image
from PIL.ImageFile import ImageFile

from painter_core.images.jpeg import load_jpeg

_INK: dict[int, int | tuple[int, ...]] = {1: 165, 2: (165, 38), 3: (165, 38, 219), 4: (165, 38, 219, 76)}


def load(picture: ImageFile, image: bytes, notes: Counter[str] | None = None) -> None:
    """Decodes an opened picture.

    Args:
        image: the bytes that it was opened from.
        notes: counts what was noticed, by names of schemas.rejects.WARNINGS.

    Raises:
        OSError: there is less data than the picture needs; or what else Pillow raises on damaged bytes.
    """
    if picture.format in ("JPEG", "MPO"):
        picture.decodermaxblock = len(image)  # arithmetic codes can only be read all at once
        load_jpeg(picture, image, notes)
    elif picture.format == "PNG":
        _load_png(picture, image)
    picture.load()  # what is loaded already stays as it is


def _load_png(picture: ImageFile, image: bytes) -> None:
    """Decodes over a plain colour: a row that still shows it was not written."""
    if not picture.tile or picture.tile[0].extents != (0, 0, *picture.size):
        return  # no pixels, or a frame of an animation that covers a part
    ink = _INK[len(picture.getbands())]
    ground = Image.new(picture.mode, picture.size, ink)
    blank = ground.getpixel((0, 0))
    picture.im = ground.im
    picture.load()
    # the last two rows: of an interlaced picture all even ones may be there and no odd one
    corners = [(picture.width - 1, picture.height - i) for i in (1, 2)]
    if suspects := [at for at in corners if picture.getpixel(at) == blank]:
        again = Image.open(io.BytesIO(image), formats=("PNG",))  # over zeros
        if any(again.getpixel(at) != blank for at in suspects):
            raise OSError("its data ends before its last row")
