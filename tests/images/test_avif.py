"""AVIF: colours and alpha as in other formats, cut and hostile files, formats in the same container."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image

from painter_core.errors import Reject
from painter_core.images.decode import decode_image
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import inspect
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.write import write_table

SIDE = 32


def avif(picture: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "AVIF", speed=10, **options)
    return out.getvalue()


def noise(side: int = 48) -> Image.Image:
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (side, side, 3), np.uint8))


def with_size(image: bytes, width: int, height: int) -> bytes:
    """The file with another size in its header."""
    at = image.index(b"ispe") + 8
    return image[:at] + struct.pack(">II", width, height) + image[at + 8 :]


def test_pixels_are_those_of_the_picture() -> None:
    picture = noise()
    image = avif(picture, quality=100, subsampling="4:4:4")
    given = decode_image(image, 48).astype(int)
    assert np.abs(given - np.asarray(picture)).mean() < 2
    assert (decode_image(image, SIDE) == decode_image(image, SIDE)).all()


def test_alpha_lies_on_white() -> None:
    image = avif(Image.new("RGBA", (40, 40), (200, 0, 0, 0)), quality=100)
    assert decode_image(image, SIDE).min() > 250
    assert decode_image(image, SIDE, alpha="drop")[..., 0].min() > 150
    assert decode_image(avif(Image.new("L", (40, 40), 7), quality=100), SIDE).max() <= 10


@pytest.mark.parametrize("options", [{}, {"quality": 100}, {"save_all": True, "append_images": [noise()]}])
def test_every_cut_is_found(options: dict[str, object]) -> None:
    image = avif(noise(), **options)
    first = len(avif(noise(), **{k: v for k, v in options.items() if k == "quality"}))
    for kept in range(12, min(first, len(image)) - 100, 101):
        with pytest.raises(Reject, match=r"^img_truncated"):
            decode_image(image[:kept], SIDE)


def test_sizes_in_the_header_are_limited() -> None:
    image = avif(Image.new("RGB", (64, 64), "red"))
    for side, reason in ((8000, "img_too_large"), (60_000, "img_truncated.*too large"), (0, "img_truncated")):
        with pytest.raises(Reject, match=reason):
            decode_image(with_size(image, side, side), SIDE)
    with pytest.raises(Reject, match="img_aspect"):
        decode_image(avif(Image.new("RGB", (640, 20))), SIDE)


def test_others_in_its_container_are_another_format() -> None:
    for brand in (b"heic", b"heix", b"mif1", b"isom", b"crx "):
        with pytest.raises(Reject, match=r"^img_format: .*accepted: .*AVIF"):
            decode_image(b"\0\0\0\x18ftyp" + brand + bytes(60), SIDE)
    with pytest.raises(Reject, match=r"^img_truncated"):
        decode_image(b"\0\0\0\x18ftypavif" + bytes(60), SIDE)


def test_one_thread_decodes() -> None:
    """A worker has one CPU."""
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1


def test_make_table_and_inspect_table_take_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.avif").write_bytes(avif(noise()))
    (tmp_path / "photos" / "a.txt").write_text("红")
    out = str(tmp_path / "t.parquet")
    assert write_table(MakeTableConfig(outputs=out, pictures=str(tmp_path / "photos"))) == 1
    report = inspect(InspectConfig(tables=out, outputs=str(tmp_path / "samples")))
    assert report.pictures is not None
    assert report.pictures.formats == {"AVIF": 1}
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["sample-1.avif"]
