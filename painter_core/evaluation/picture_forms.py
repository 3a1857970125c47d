"""A picture in every form that the judges of a run read, as one record of bytes.

A record is what a CPU worker hands to a model worker, and what a process that decodes gives back: one type of
numpy, without pickles. Fields: format, width, height; and, where asked for,
    goods       uint8 (64, 64, 3), for the judge of the sample's goods
    inception   float32 (blurs, 3, 299, 299)
    clip        uint8 (S, S, 3), squashed to the side of the CLIP
    vqgan       uint8 (S, S, 3), shorter side resized and the centre cut out, as precompute_codes does
Without torch.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image

from painter_core.evaluation.inception_input import SIDE, Convention, blurred, inception_input
from painter_core.images.decode import FORMATS, cropped, format_of, load_rgb

GOODS_PX = 64


def squashed(rgb: Image.Image, side: int) -> np.ndarray:
    """A picture as a CLIP reads it, uint8 (side, side, 3), whatever its own shape was."""
    return np.asarray(rgb.resize((side, side), Image.Resampling.BICUBIC))


@dataclass(frozen=True, kw_only=True)
class PictureForms:
    """Which forms are made."""

    goods: bool = False
    inception: Convention | None = None
    blurs: tuple[int, ...] = (0,)
    """Radii of the filter before Inception's resize."""
    clip_px: int | None = None
    vqgan_px: int | None = None

    @property
    def dtype(self) -> np.dtype:
        """The fields of a picture's record, as numpy's type."""
        fields: list[tuple] = [("format", "u1"), ("width", "<i4"), ("height", "<i4")]
        if self.goods:
            fields.append(("goods", "u1", (GOODS_PX, GOODS_PX, 3)))
        if self.inception:
            fields.append(("inception", "<f4", (len(self.blurs), 3, SIDE, SIDE)))
        for name, side in (("clip", self.clip_px), ("vqgan", self.vqgan_px)):
            if side:
                fields.append((name, "u1", (side, side, 3)))
        return np.dtype(fields)

    def record(self, image: bytes, notes: Counter[str] | None = None) -> np.ndarray:
        """The record () of an encoded picture.

        Raises:
            Reject: it cannot be used.
        """
        rgb = load_rgb(image, notes=notes)
        found = np.zeros((), self.dtype)
        found["format"] = FORMATS.index(format_of(image))
        found["width"], found["height"] = rgb.size
        if self.goods:
            found["goods"] = cropped(rgb, GOODS_PX, "antialias")
        if self.inception:
            pixels = np.asarray(rgb)
            for i, radius in enumerate(self.blurs):
                found["inception"][i] = inception_input(blurred(pixels, radius), self.inception)
        if self.clip_px:
            found["clip"] = squashed(rgb, self.clip_px)
        if self.vqgan_px:
            found["vqgan"] = cropped(rgb, self.vqgan_px, "bilinear")
        return found
