"""JPEGs that end properly but lack data, and sound ones of many encodings, which are as Pillow reads them."""

import base64
import io
import itertools
import random
import struct
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from painter_core.errors import Reject
from painter_core.images.decode import decode_image
from painter_core.images.whole import load
from tests.support.catalogue import encoded

END = b"\xff\xd9"
WIDTH, HEIGHT = 90, 75


def scene(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Large shapes and some noise, as in photographs."""
    random = np.random.RandomState(seed)
    rough = Image.fromarray(random.randint(0, 256, (5, 6, 3), np.uint8)).resize((width, height), 3)
    noisy = np.asarray(rough, np.int16) + random.randint(-12, 13, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image | None = None, **options: object) -> bytes:
    return encoded(picture or scene(), "JPEG", **options)


# 24 x 20, grey from 0 on the left to 229 on the right, in arithmetic codes, which Pillow does not write
_TABLES = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAYEBQYFBAYGBQYHBwYIChAKCgkJChQODwwQFxQYGBcUFhYaHSUfGhsjHBYWICwgIyYnKSop"
    "GR8tMC0oMCUoKSj/"
)
ARITHMETIC = {
    "sequential": "yQALCAAUABgBAREA/8wABgAQEAX/2gAIAQEAAD8A/wDJDV8ObJUieglWLpqQhElhB/lzwaU47BL92Oj/2Q==",
    "progressive": "ygALCAAUABgBAREA/8wABAAQ/9oACAEBAAAAAf8Akey7lK+AOncQRTOA/8wABBAF/9oACAEBAAEFAhWpc/izZY6A"
    "/8wABBAF/9oACAEBAAY/AsD/zAAEEAX/2gAIAQEAAT8hqGNVIv/aAAgBAQAAABACgP/MAAQQBf/aAAgBAQABPxBUOMD/2Q==",
}


def scans(image: bytes) -> list[int]:
    """Where the codes of each scan of a JPEG of ours begin: none has FF DA in a segment."""
    starts, at = [], -1
    while (at := image.find(b"\xff\xda", at + 1)) >= 0:
        starts.append(at + 2 + int.from_bytes(image[at + 2 : at + 4], "big"))
    return starts


def as_pillow_reads(image: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(image)) as picture:
        return np.asarray(picture)


def in_three_scans(planes: list[Image.Image], *, kept: int = 3) -> bytes:
    """A sequential JPEG of a scan a component, put together from grey ones with the same tables."""
    parts = [jpeg(plane) for plane in planes]
    first = parts[0]
    frame, codes = first.index(b"\xff\xc0"), scans(first)[0]
    tables = first[:frame], first[frame + 13 : first.index(b"\xff\xda")]
    layout = struct.pack(">BHHB", 8, planes[0].height, planes[0].width, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    image = tables[0] + b"\xff\xc0" + struct.pack(">H", len(layout) + 2) + layout + tables[1]
    for number, part in enumerate(parts[:kept], start=1):
        image += b"\xff\xda\0\x08\1" + bytes([number]) + b"\0\0\x3f\0" + part[codes:-2]
    return image + END


ENCODINGS = {
    "baseline": jpeg(),
    "quality 100": jpeg(quality=100, subsampling=0),
    "quality 20": jpeg(quality=20),
    "4:2:2": jpeg(subsampling=1),
    "grey": jpeg(scene().convert("L")),
    "cmyk": jpeg(scene().convert("CMYK")),
    "rgb": jpeg(keep_rgb=True),
    "optimized": jpeg(optimize=True),
    "restarts": jpeg(restart_marker_rows=1),
    "many restarts": jpeg(restart_marker_blocks=1),
    "progressive": jpeg(progressive=True),
    "progressive grey": jpeg(scene().convert("L"), progressive=True),
    "progressive cmyk": jpeg(scene().convert("CMYK"), progressive=True),
    "progressive with restarts": jpeg(progressive=True, restart_marker_blocks=3),
    "three scans": in_three_scans(list(scene().convert("YCbCr").split())),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_jpeg_that_was_cut_and_closed_is_rejected(name: str) -> None:
    image = ENCODINGS[name]
    starts = scans(image)
    # from the first codes almost to the last ones (more than a block lacks), and never between two scans
    places = [int(at) for at in np.linspace(starts[0] + 10, 0.95 * len(image) - 60, 40)]
    places = [at for at in places if all(not start - 60 < at <= start + 10 for start in starts)]
    assert len(places) >= 10
    for at, closed in itertools.product(places, (END, jpeg(), b"\xff\xd8\xff", END + bytes(50))):
        with pytest.raises(Reject, match=r"^img_truncated: JPEG 90x75, .* bytes: "):
            decode_image(image[:at] + closed, 32)


@pytest.mark.parametrize("name", [name for name in ENCODINGS if "progressive" not in name])
def test_pillow_itself_accepts_them(name: str) -> None:
    """If it does not any more, images/jpeg.py can go."""
    image = ENCODINGS[name]
    middle = (scans(image)[0] + len(image)) // 2
    assert as_pillow_reads(image[:middle] + END).shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ENCODINGS)
def test_sound_ones_are_as_pillow_reads_them(name: str) -> None:
    image, notes = ENCODINGS[name], Counter[str]()
    thumbnail = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + jpeg(scene(1, 40, 30))
    variants = {
        "alone": image,
        "bytes after its end": image + bytes(1000),
        "another one after its end": image + jpeg(scene(2)),
        "its end twice": image + END,
        "filling before its end": image[:-2] + b"\xff\xff\xff" + END,
        "zeros before its end": image[:-2] + bytes(5) + END,
        "a comment before its end": image[:-2] + b"\xff\xfe\0\x0a\xff\xd9\xff\xda\xff\xd0ab" + END,
        "a thumbnail": image[:2]
        + b"\xff\xe1"
        + struct.pack(">H", len(thumbnail) + 2)
        + thumbnail
        + image[2:],
    }
    expected = as_pillow_reads(image)
    for what, variant in variants.items():
        picture = Image.open(io.BytesIO(variant))
        load(picture, variant, notes)
        np.testing.assert_array_equal(np.asarray(picture), expected, err_msg=what)
    assert not notes


@pytest.mark.parametrize("seed", range(60))
def test_any_encoding_of_any_picture_is_kept(seed: int) -> None:
    dice = random.Random(seed)
    size = dice.choice([(16, 16), (17, 33), (64, 48), (97, 100)])
    ground = dice.choice([(128, 128, 128), (127, 127, 127), (255, 255, 255), (0, 0, 0)])
    picture = dice.choice([scene(seed, *size), Image.new("RGB", size, ground)])
    if dice.random() < 0.3:  # a product on a plain ground, which the last pixels show
        product, picture = picture.crop((0, 0, 9, 9)), Image.new("RGB", size, ground)
        picture.paste(product, (3, 3))
    picture = picture.convert(dice.choice(["RGB", "RGB", "L", "CMYK"]))
    options: dict[str, object] = {"quality": dice.choice([1, 30, 75, 95, 100])}
    options |= {name: dice.random() < 0.5 for name in ("progressive", "optimize")}
    options["restart_marker_blocks"] = dice.choice([0, 0, 1, 5])
    if picture.mode == "RGB":
        options["subsampling"] = dice.choice([0, 1, 2])
    image, notes = jpeg(picture, **options), Counter[str]()
    opened = Image.open(io.BytesIO(image))
    load(opened, image, notes)
    np.testing.assert_array_equal(np.asarray(opened), as_pillow_reads(image))
    assert not notes


def test_two_pictures_in_one_file() -> None:
    """MPO, as cameras write it: the first one counts, and has an end of its own."""
    image = encoded(scene(), "MPO", save_all=True, append_images=[scene(3)], quality=80)
    np.testing.assert_array_equal(decode_image(image, HEIGHT), decode_image(jpeg(quality=80), HEIGHT))
    second = image.index(END) + 2
    with pytest.raises(Reject, match="img_truncated"):
        decode_image(image[: second // 2] + image[second - 2 :], 32)


def test_a_lost_piece_between_two_restart_markers() -> None:
    image = jpeg(restart_marker_rows=1)
    parts = [at for at in range(len(image)) if image[at] == 0xFF and 0xD0 <= image[at + 1] <= 0xD7]
    assert len(parts) == 4
    with pytest.raises(Reject, match=r"img_truncated: .* restart markers are missing"):
        decode_image(image[: parts[1]] + image[parts[2] :], 32)


def test_a_component_that_is_missing() -> None:
    planes = list(scene().convert("YCbCr").split())
    with pytest.raises(Reject, match=r"img_truncated: .* scans are missing"):
        decode_image(in_three_scans(planes, kept=2), 32)


def test_progressive_without_its_last_scans_is_kept_and_counted() -> None:
    """The format allows it: nothing tells a cut between two scans from a decision to stop there."""
    image = jpeg(progressive=True)
    ends = [image.rindex(b"\xff\xda", 0, start) for start in scans(image)][1:]
    for end in ends:
        table = image.rindex(b"\xff\xc4", 0, end)  # each scan's Huffman table stands before it, or none
        end = table if end - table < 60 else end
        notes: Counter[str] = Counter()
        decode_image(image[:end] + END, 32, notes=notes)
        assert notes == {"img_coarse": 1}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_codes(name: str) -> None:
    """What they lack cannot be known, since zeros at their end are left out; they are read at any length."""
    image = base64.b64decode(_TABLES + ARITHMETIC[name])
    expected = [
        0,
        9,
        20,
        30,
        40,
        50,
        61,
        70,
        81,
        89,
        100,
        111,
        120,
        130,
        142,
        150,
        160,
        168,
        180,
        190,
        199,
        210,
    ]
    assert decode_image(image, 20)[0, :, 0].tolist() == expected[2:]
    comments = b"\xff\xfe" + struct.pack(">H", 65_535 - len(image) // 2) + bytes(65_533 - len(image) // 2)
    long = image[:2] + comments + image[2:]  # Pillow would read 64 KiB and stop in the middle of a scan
    np.testing.assert_array_equal(decode_image(long, 20), decode_image(image, 20))
