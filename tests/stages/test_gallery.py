"""The gallery page: what it escapes, how large it gets, which pictures it takes; and a browser shows them."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from painter_core.images.embed import KEEP_BYTES, THUMBNAIL_PX
from painter_core.stages.make_gallery.page import MAX_PICTURES, GalleryEntry, render_gallery, write_gallery
from painter_core.text.escape import visible

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
HOSTILE = [
    "<script>document.title='hacked'</script>",
    "\" onerror=\"document.title='hacked'",
    "' autofocus onfocus='document.title=`hacked`'",
    "</p></li></ul><img src=x onerror=document.title='hacked'>",
    "{{ 7 * 7 }} {% raw %}",
    "</title><style>*{display:none}</style>",
]


def _image(
    colour: tuple[int, int, int] = (200, 30, 40), size: tuple[int, int] = (64, 64), image_format: str = "PNG"
) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", size, colour).save(encoded, image_format)
    return encoded.getvalue()


def _entry(idx: str = "00001", caption: str = "红色连衣裙", **fields: object) -> GalleryEntry:
    return GalleryEntry(**({"idx": idx, "caption": caption, "images": (_image(),)} | fields))  # type: ignore[arg-type]


class _Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def images(self) -> list[Image.Image]:
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


def test_page_says_what_is_known_of_a_row() -> None:
    entry = _entry(idx="007", seed=42, score="4/4", sample=0)
    page = _Page(render_gallery([entry], title="画廊", subtitle="model tiny"))
    for text in ("画廊", "model tiny", "红色连衣裙", "idx007", "sample0", "seed42", "score4/4", "1 row"):
        assert text in page.text
    unknown = _Page(render_gallery([_entry()], title="画廊")).text
    assert not re.search(r"\n(sample|seed|score)", unknown)


def test_page_is_self_contained() -> None:
    page = render_gallery([_entry()], title="画廊")
    tags = _Page(page).tags
    metas = [attributes for tag, attributes in tags if tag == "meta"]
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in metas
    assert any(attributes.get("name") == "viewport" for attributes in metas)
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "base", "form", "a"}
    assert not re.search(r"https?:|url\(|@import", page)
    for needed in ("Noto Sans CJK SC", "prefers-color-scheme: dark", "image-rendering: pixelated"):
        assert needed in page


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text(text: str) -> None:
    plain = _Page(render_gallery([_entry(labels=("a",), score="1")], title="t", subtitle="s"))
    harmless = [(tag, sorted(attributes)) for tag, attributes in plain.tags]
    entry = _entry(idx=text, caption=text, labels=(text,), score=text)
    page = _Page(render_gallery([entry], title=text, subtitle=text))
    assert page.text.count(text) == 7  # title, heading, subtitle, label, caption, idx, score
    assert [(tag, sorted(attributes)) for tag, attributes in page.tags] == harmless  # nothing new came to be


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m红", "⟨U+001B⟩[31m红"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u2066a\u2069", "⟨U+2066⟩a⟨U+2069⟩"),
        ("零\u200b宽", "零⟨U+200B⟩宽"),
        ("两\u2028行\n", "两⟨U+2028⟩行⟨U+000A⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\x00\x7f\x85", "⟨U+0000⟩⟨U+007F⟩⟨U+0085⟩"),
        ("红色T恤,100% “棉” 👕 é", "红色T恤,100% “棉” 👕 é"),
    ],
)
def test_invisible_characters_are_written_out(text: str, shown: str, tmp_path: Path) -> None:
    assert visible(text) == shown
    write_gallery(str(tmp_path / "g.html"), [_entry(idx=text, caption=text)], title=text, subtitle=text)
    page = (tmp_path / "g.html").read_text(encoding="utf-8")
    assert page.count(shown) == 6  # title, heading, subtitle, alt, caption, idx
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", page)


def test_long_text_is_cut_and_said_so() -> None:
    page = _Page(render_gallery([_entry(idx="i" * 200, caption="长" * 5000)], title="t"))
    assert "长" * 400 + "… (5,000 characters)" in page.text
    assert "i" * 80 + "… (200 characters)" in page.text


def _extent(rows: int, pictures: int = 1, **options: int) -> str:
    entries = (_entry(images=(_image(size=(1, 1)),) * pictures) for _ in range(rows))
    text = _Page(render_gallery(entries, title="t", **options)).text  # type: ignore[arg-type]
    return next(line for line in text.splitlines() if " row" in line)


def test_how_much_is_shown_is_said() -> None:
    assert _extent(7) == _extent(7, total=7) == "7 rows"
    assert _extent(0) == "0 rows"
    assert _extent(7, total=12345, seed=3) == "7 of 12,345 rows shown, sampled with seed 3"
    assert _extent(3, 16) == "3 rows; 48 pictures, of at most 1,000 a page"
    assert _extent(3, 2, total=4) == (
        "3 of 4 rows shown, sampled with seed 0; 6 pictures, of at most 1,000 a page"
    )


@pytest.mark.long
def test_a_page_is_bounded_whatever_the_pictures_are() -> None:
    """In bytes by thumbnails that are made smaller until they fit, in pictures by an error."""
    noise = np.random.RandomState(0).randint(0, 256, (512, 512, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "PNG")
    assert len(encoded.getvalue()) > 20 * KEEP_BYTES
    page = render_gallery([_entry(images=(encoded.getvalue(),) * 16)], title="t")
    assert len(page) < 16 * KEEP_BYTES * 4 / 3 + 20_000
    sides = {picture.size for picture in _Page(page).images()}
    assert sides <= {(s, s) for s in range(128, THUMBNAIL_PX)}, "smaller than it has to be"
    pictures = (_image(size=(1, 1)),) * 100
    assert _extent(MAX_PICTURES // 100, 100) == "10 rows; 1,000 pictures, of at most 1,000 a page"
    with pytest.raises(ValueError, match=r"more than 1,000 pictures for one page"):
        render_gallery((_entry(images=pictures) for _ in range(11)), title="t")


def test_many_pictures_of_a_row_stand_in_lines() -> None:
    for number, expected in ((1, "pictures"), (2, "pictures"), (3, "pictures many"), (16, "pictures many")):
        page = render_gallery([_entry(images=(_image(),) * number)], title="t")
        assert ("div", {"class": expected}) in _Page(page).tags


def test_original_stands_beside_reconstruction() -> None:
    images = (_image((255, 0, 0)), _image((0, 0, 255)))
    page = _Page(
        render_gallery([_entry(images=images, labels=("original", "reconstruction"))], title="codes")
    )
    assert [picture.getpixel((0, 0)) for picture in page.images()] == [(255, 0, 0), (0, 0, 255)]
    assert page.text.index("original") < page.text.index("reconstruction")
    assert ("ul", {"class": "cards paired"}) in page.tags
    with pytest.raises(ValueError, match="1 labels for 2 images"):
        render_gallery([_entry(images=images, labels=("original",))], title="codes")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_small_pictures_are_embedded_as_they_are(image_format: str) -> None:
    image = _image(image_format=image_format)
    page = render_gallery([_entry(images=(image,))], title="t")
    assert f"data:image/{image_format.lower()};base64,{base64.b64encode(image).decode()}" in page
    assert "class=pixels" in page


@pytest.mark.parametrize(
    ("size", "image_format"), [((2000, 1000), "PNG"), ((64, 64), "BMP"), ((64, 64), "GIF")]
)
def test_others_become_thumbnails(size: tuple[int, int], image_format: str) -> None:
    page = _Page(render_gallery([_entry(images=(_image(size=size, image_format=image_format),))], title="t"))
    (picture,) = page.images()
    assert picture.format == "WEBP"
    assert picture.size == ((THUMBNAIL_PX, THUMBNAIL_PX // 2) if size[0] > size[1] else size)


def test_exif_stays_at_home() -> None:
    exif = Image.Exif()
    exif[0x010E] = "home address"  # ImageDescription
    photograph = io.BytesIO()
    Image.new("RGB", (64, 64)).save(photograph, "JPEG", exif=exif)
    (picture,) = _Page(render_gallery([_entry(images=(photograph.getvalue(),))], title="t")).images()
    assert not picture.getexif()


@pytest.mark.parametrize(
    "image", [b"", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", _image(size=(900, 9))[:60]]
)
def test_no_picture_is_an_error_that_names_the_row(image: bytes) -> None:
    with pytest.raises(ValueError, match="the picture of idx '00001' cannot be shown"):
        render_gallery([_entry(images=(image,))], title="t")


def test_failed_write_keeps_the_old_page(tmp_path: Path) -> None:
    path = tmp_path / "with space" / "画廊 #1.html"
    write_gallery(str(path), [_entry()], title="first")
    with pytest.raises(ValueError, match="cannot be shown"):
        write_gallery(str(path), [_entry(images=(b"broken",))], title="second")
    assert "first" in path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# Without Chromium (apt-get install chromium) this test is not collected: a browser is no requirement.
if CHROMIUM is not None:
    COLOURS = {"PNG": (230, 0, 0), "JPEG": (0, 160, 0), "WEBP": (0, 0, 230)}

    def _chromium(tmp_path: Path, page: Path, *flags: str) -> str:
        assert CHROMIUM is not None
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @pytest.mark.parametrize("window", [(390, 844), (1280, 800)])
    def test_browser_shows_the_pictures(window: tuple[int, int], tmp_path: Path) -> None:
        entries = [
            _entry(images=(_image(colour, image_format=name),), caption=f"{name} {text}")
            for (name, colour), text in zip(COLOURS.items(), HOSTILE[:3], strict=True)
        ]
        page, shot = tmp_path / "gallery.html", tmp_path / "shot.png"
        write_gallery(str(page), entries, title="画廊")
        size = f"--window-size={window[0]},{window[1]}"
        document = _chromium(tmp_path, page, size, f"--screenshot={shot}", "--dump-dom")
        assert "<title>画廊</title>" in document  # the captions' scripts did not run
        with Image.open(shot) as screenshot:
            pixels = screenshot.convert("RGB")
        assert pixels.size == window
        for name, colour in COLOURS.items():
            found = sum(
                n
                for n, seen in pixels.getcolors(window[0] * window[1]) or []
                if max(abs(a - b) for a, b in zip(seen, colour, strict=True)) < 12
            )
            assert found > 150 * 150, f"{name} is not on the page"
