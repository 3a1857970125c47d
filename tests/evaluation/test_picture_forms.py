"""Records of pictures: every form that judges read, from any picture that the jobs accept."""

import io

import numpy as np
import pytest
from PIL import Image

from painter_core.errors import Reject
from painter_core.evaluation.inception_input import blurred, inception_input
from painter_core.evaluation.picture_forms import PictureForms
from painter_core.images.decode import FORMATS, decode_image
from tests.golden.formula import image

ALL = PictureForms(goods=True, inception="clean", blurs=(0, 2), clip_px=24, vqgan_px=32)


def encoded(picture: np.ndarray, image_format: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(out, image_format)
    return out.getvalue()


def test_a_record_holds_every_form() -> None:
    picture = image(0, 90)[:60]  # 90 wide, 60 high
    found = ALL.record(encoded(picture))
    assert (FORMATS[found["format"]], found["width"], found["height"]) == ("PNG", 90, 60)
    for i, radius in enumerate((0, 2)):
        np.testing.assert_array_equal(
            found["inception"][i], inception_input(blurred(picture, radius), "clean")
        )
    data = encoded(picture)
    np.testing.assert_array_equal(found["goods"], decode_image(data, 64, "antialias"))
    np.testing.assert_array_equal(found["vqgan"], decode_image(data, 32, "bilinear"))
    squashed = Image.fromarray(picture).resize((24, 24), Image.Resampling.BICUBIC)  # not cropped
    np.testing.assert_array_equal(found["clip"], np.asarray(squashed))


def test_records_travel_as_bytes() -> None:
    found = ALL.record(encoded(image(0, 40)))
    back = np.frombuffer(found.tobytes(), ALL.dtype)[0]
    for name in ALL.dtype.names or ():
        np.testing.assert_array_equal(back[name], found[name])


def test_nothing_is_made_that_nobody_asked_for() -> None:
    assert PictureForms().dtype.names == ("format", "width", "height")
    assert PictureForms(clip_px=24).dtype.itemsize == 9 + 24 * 24 * 3


@pytest.mark.parametrize(
    ("mode", "image_format"), [("L", "PNG"), ("P", "GIF"), ("RGB", "BMP"), ("RGB", "WEBP")]
)
def test_pictures_of_other_kinds_are_read(mode: str, image_format: str) -> None:
    found = ALL.record(encoded(image(1, 64), image_format, mode))
    assert FORMATS[found["format"]] == image_format
    assert found["inception"].std() > 0.1


def test_transparent_pixels_are_white_as_in_precompute() -> None:
    clear = np.zeros((40, 40, 4), np.uint8)
    found = ALL.record(encoded(clear, mode="RGBA"))
    assert (found["clip"] == 255).all()
    assert (found["vqgan"] == 255).all()


def test_what_is_no_picture_is_rejected() -> None:
    with pytest.raises(Reject, match="img_unidentified"):
        ALL.record(b"no picture at all")
    with pytest.raises(Reject, match="img_too_small"):
        ALL.record(encoded(image(0, 15)))
