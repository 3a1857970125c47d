"""Cells to pictures: base64 in every form, pixel modes, EasyNLP's transform, what is rejected."""

import base64
import random
import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from painter_core.errors import Reject
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import FORMATS, decode_image, encode_image
from painter_core.images.pixels import to_pixels, to_uint8
from schemas.rejects import REASONS, WARNINGS
from tests.support.catalogue import encoded

SIDE = 24


def noise(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """uint8 (H, W, C), the same everywhere."""
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels), np.uint8)


def plain(colour: object, mode: str = "RGB", size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A picture of one colour."""
    return Image.new(mode, size, colour)


# --- base64 ----------------------------------------------------------------------------------------

IMAGE = bytes(range(256))
STANDARD = base64.b64encode(IMAGE).decode()
URLSAFE = base64.urlsafe_b64encode(IMAGE).decode()
WRAPPED = "\r\n".join(STANDARD[i : i + 76] for i in range(0, len(STANDARD), 76))


@pytest.mark.parametrize(
    ("cell", "noted"),
    [
        (STANDARD, {}),
        (URLSAFE, {}),
        (STANDARD.rstrip("="), {"b64_padding": 1}),
        (URLSAFE.rstrip("="), {"b64_padding": 1}),
        (f"  {STANDARD}\t\n", {}),
        (WRAPPED, {}),
        (f"data:image/jpeg;base64,{STANDARD}", {"b64_data_uri": 1}),
        (f"DATA:;charset=x;base64, {URLSAFE}", {"b64_data_uri": 1}),
        (STANDARD.encode(), {}),
        (WRAPPED.encode(), {}),
        (IMAGE, {}),
    ],
)
def test_cells_that_hold_an_image(cell: str | bytes, noted: dict[str, int]) -> None:
    notes: Counter[str] = Counter()
    assert image_of_cell(cell, notes) == IMAGE
    assert image_of_cell(cell) == IMAGE
    assert notes == noted
    assert set(noted) <= set(WARNINGS)


@pytest.mark.parametrize(
    ("cell", "reason", "detail"),
    [
        (None, "img_empty", "no bytes"),
        ("", "img_empty", "no bytes"),
        (b"", "img_empty", "no bytes"),
        (" \t ", "img_empty", "white space"),
        ("data:image/png;base64,", "img_empty", "prefix"),
        ("====", "img_empty", ""),
        (STANDARD.replace("+", " "), "b64_invalid", "' ' at byte .* turned [+] into space"),
        (STANDARD[:40] + STANDARD[41:], "b64_invalid", "one is missing"),
        (STANDARD[:40] + "é" + STANDARD[41:], "b64_invalid", "'é' at byte 40 is not base64"),
        (STANDARD[:40] + "\udcff" + STANDARD[41:], "b64_invalid", "at byte 40"),
        ("data:image/png," + STANDARD, "b64_invalid", "':' at byte 4"),
        (STANDARD[:8] + "-" + STANDARD[9:], "b64_mixed", ""),
        (STANDARD + STANDARD, "b64_trailing", "346 characters follow the padding at 342"),
        (f"b'{STANDARD}'", "b64_repr", r"b64encode\(\.\.\.\)\.decode\(\)"),
        (f"['{STANDARD}']", "b64_repr", ""),
        ("https://example.org/a.png", "img_unidentified", "looks like a URL"),
        ("pictures/红.JPG", "img_unidentified", "looks like a URL or a path"),
    ],
)
def test_cells_that_are_rejected(cell: str | bytes | None, reason: str, detail: str) -> None:
    with pytest.raises(Reject, match=rf"^{reason}: .*{detail}"):
        image_of_cell(cell)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.binary(max_size=60), st.from_regex(r"[A-Za-z0-9+/=_ -]{0,40}")))
def test_t7_any_cell_is_an_image_or_a_reject(cell: str | bytes) -> None:
    try:
        found: bytes | str = image_of_cell(cell)
    except Reject as error:
        found = error.reason
    assert found in REASONS if isinstance(found, str) else found


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=100))
def test_base64_is_inverted(image: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(image).decode()
        assert image_of_cell(text) == image
        assert image_of_cell(text.rstrip("=")) == image


# --- the transform ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "size", "crc"),
    [
        (40, 40, 64, 589162264),
        (64, 64, 32, 2833477570),
        (100, 75, 32, 238911463),
        (75, 101, 64, 1407585825),
        (333, 500, 128, 3306392313),
        (64, 90, 64, 36339861),
        (33, 33, 32, 2476995184),
        (20, 399, 32, 3734193388),
        (31, 47, 47, 521244776),
        (2050, 2100, 32, 2113292602),  # more than Pillow keeps in one piece
    ],
)
def test_bilinear_equals_opencv(height: int, width: int, size: int, crc: int) -> None:
    """SmallestMaxSize and CenterCrop of albumentations, by OpenCV 4.10 and 5.0 (equal): crc32 of the pixels.

    h, w = a.shape[:2]; s = size / min(h, w)
    a = cv2.resize(a, (round(w * s), round(h * s)), interpolation=cv2.INTER_LINEAR)
    y, x = (a.shape[0] - size) // 2, (a.shape[1] - size) // 2; crc32(a[y : y + size, x : x + size])
    """
    picture = Image.fromarray(noise(height, width, seed=height))
    assert zlib.crc32(decode_image(encoded(picture, "BMP"), size).tobytes()) == crc


def test_bilinear_by_hand() -> None:
    row = np.repeat(np.array([0, 100, 200, 40] * 8, np.uint8)[None], 32, axis=0)  # (32, 32)
    picture = Image.fromarray(np.stack([row, 255 - row, row.T], axis=-1))
    small = decode_image(encoded(picture), 16)
    # twice as small: the mean of two neighbours
    assert small[0, :2].tolist() == [[50, 205, 50], [120, 135, 50]]
    # target 0 lies left of the first centre, target 1 a quarter of the way from 0 to 100
    assert decode_image(encoded(picture), 64)[0, :4, 0].tolist() == [0, 25, 75, 125]


def test_no_resize_is_the_middle_of_the_picture() -> None:
    pixels = noise(SIDE, SIDE + 11)
    for resize in ("bilinear", "antialias"):
        got = decode_image(encoded(Image.fromarray(pixels)), SIDE, resize)
        if resize == "bilinear":
            np.testing.assert_array_equal(got, pixels[:, 5 : 5 + SIDE])
        assert (got.shape, got.dtype) == ((SIDE, SIDE, 3), np.uint8)


def test_antialias_averages() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 254
    small = decode_image(encoded(Image.fromarray(stripes)), 32, "antialias")
    assert abs(small.astype(int) - 127).max() <= 6  # bicubic rings at the edges
    assert abs(decode_image(encoded(Image.fromarray(stripes)), 32)[0].astype(int) - 127).max() == 0
    wide = Image.fromarray(np.concatenate([stripes, np.full((256, 100, 3), 9, np.uint8)], axis=1))
    assert decode_image(encoded(wide), 32, "antialias")[0, -1].max() < 127  # the crop is the middle


# --- pixel modes -----------------------------------------------------------------------------------


def colour(image: bytes, alpha: str = "white") -> list[int]:
    """The colour in the middle."""
    return decode_image(image, SIDE, "bilinear", alpha)[SIDE // 2, SIDE // 2].tolist()  # type: ignore[arg-type]


MODES = {
    "RGB": (plain((10, 200, 30)), {}, [10, 200, 30], [10, 200, 30]),
    "L": (plain(77, "L"), {}, [77, 77, 77], [77, 77, 77]),
    "1": (plain(1, "1"), {}, [255, 255, 255], [255, 255, 255]),
    "P": (plain((10, 200, 30)).convert("P"), {}, None, None),
    "RGBA opaque": (plain((10, 200, 30, 255), "RGBA"), {}, [10, 200, 30], [10, 200, 30]),
    "RGBA clear": (plain((10, 200, 30, 0), "RGBA"), {}, [255, 255, 255], [10, 200, 30]),
    "RGBA half": (plain((0, 100, 200, 128), "RGBA"), {}, [127, 177, 227], [0, 100, 200]),
    "LA clear": (plain((9, 0), "LA"), {}, [255, 255, 255], [9, 9, 9]),
    "P clear": (plain(0, "P"), {"transparency": 0}, [255, 255, 255], [0, 0, 0]),
    "RGB clear": (plain((1, 2, 3)), {"transparency": (1, 2, 3)}, [255, 255, 255], [1, 2, 3]),
    "L clear": (plain(5, "L"), {"transparency": 5}, [255, 255, 255], [5, 5, 5]),
    "16-bit grey": (Image.fromarray(np.full((SIDE, SIDE), 30000, np.uint16)), {}, [117] * 3, [117] * 3),
    "16-bit white": (Image.fromarray(np.full((SIDE, SIDE), 65535, np.uint16)), {}, [255] * 3, [255] * 3),
    "16-bit clear": (
        Image.fromarray(np.full((SIDE, SIDE), 300, np.uint16)), {"transparency": 300}, [255] * 3, [1] * 3
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_png_modes(mode: str) -> None:
    picture, options, on_white, dropped = MODES[mode]
    image = encoded(picture, **options)
    assert colour(image) == (on_white or list(picture.convert("RGB").getpixel((0, 0))))
    assert colour(image, "drop") == (dropped or list(picture.convert("RGB").getpixel((0, 0))))


@pytest.mark.parametrize(
    ("ink", "expected"),
    [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0), ((0, 0, 0, 100), 155), ((100, 100, 100, 0), 155)],
)
def test_cmyk_jpeg_is_stored_inverted(ink: tuple[int, ...], expected: int) -> None:
    image = encoded(plain(ink, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in image
    assert all(abs(c - expected) <= 2 for c in colour(image))


@pytest.mark.parametrize("image_format", FORMATS)
def test_formats(image_format: str) -> None:
    image = encoded(plain((200, 40, 40)), image_format)
    assert all(abs(a - b) <= 6 for a, b in zip(colour(image), (200, 40, 40), strict=True))


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_of_an_animation(image_format: str) -> None:
    frames = [plain(0, "L").convert("RGB"), plain(255, "L").convert("RGB")]
    image = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
    notes: Counter[str] = Counter()
    assert decode_image(image, SIDE, notes=notes).max() == 0
    assert notes == {"animated_first_frame": 1}
    notes.clear()
    decode_image(encoded(frames[0], image_format), SIDE, notes=notes)
    assert not notes


# --- what is rejected ------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95])
def test_truncated(image_format: str, kept: float) -> None:
    image = encoded(Image.fromarray(noise(60, 60)), image_format)
    with pytest.raises(Reject, match=r"^img_(truncated|unidentified): .*(bytes|starts with|header)"):
        decode_image(image[: int(kept * len(image))], SIDE)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # a size that damage made up
@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_give_a_picture_or_a_reject(seed: int) -> None:
    rng = random.Random(seed)
    channels = dict(zip(FORMATS, (3, 4, 4, 3, 3, 4), strict=True))
    sources = [encoded(Image.fromarray(noise(40, 40, channels=n)), name) for name, n in channels.items()]
    for source in sources * 12:
        data = bytearray(source)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(min(len(data), rng.choice((40, 10**6))))] = rng.randrange(256)
        try:
            found: object = decode_image(bytes(data), SIDE, notes=Counter()).shape
        except Reject as error:
            found = error.reason
            str(error).encode()  # no lone surrogates: it goes into a table
        assert found == (SIDE, SIDE, 3) or found in REASONS


def test_a_fault_of_the_library_is_not_a_bad_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Image.Image) -> None:
        raise AttributeError("no such function")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", gone)
    with pytest.raises(AttributeError):
        decode_image(encoded(plain(0)), SIDE)


# --- pixels ----------------------------------------------------------------------------------------


def test_pixels_there_and_back() -> None:
    batch = np.stack([noise(8, 8, seed) for seed in range(3)])
    batch[0, 0, 0] = [0, 255, 128]
    pixels = to_pixels(batch)
    assert (pixels.shape, pixels.dtype) == ((3, 3, 8, 8), torch.float32)
    np.testing.assert_allclose(pixels[0, :, 0, 0], [-1, 1, 128 / 127.5 - 1], atol=1e-7)
    np.testing.assert_array_equal(to_uint8(pixels + 1e-5), batch)


def test_to_uint8_truncates_and_clips() -> None:
    values = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.999, 1.0, 3.0])
    assert to_uint8(values.expand(1, 3, 1, 7))[0, 0, :, 0].tolist() == [0, 0, 63, 127, 254, 255, 255]


@pytest.mark.parametrize(("image_format", "lossless"), [("png", True), ("webp", True), ("jpeg", False)])
def test_encode_image(image_format: str, lossless: bool) -> None:
    y, x = np.mgrid[0:32, 0:32] * 7
    picture = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)
    image = encode_image(picture, image_format)  # type: ignore[arg-type]
    assert image == encode_image(picture, image_format)  # type: ignore[arg-type]
    error = abs(decode_image(image, 32).astype(int) - picture).max()
    assert error == 0 if lossless else error < 40
