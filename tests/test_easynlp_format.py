"""EasyNLP's output lines, to the byte, and both forms of a picture cell."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from painter_core.easynlp_format import encode_picture, format_line, model_text, read_cell
from painter_core.images import encode_image
from painter_core.tokenizer import from_vocab

VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "宽",
    "松",
    "t",
    "-",
    "shirt",
    "##s",
    "##e",
    "恤",
    "，",
    "2",
]


def test_lines_as_easynlp_writes_them() -> None:
    # what "\t".join(str(v) for v in (idx, text, ["iVBOR"])) + "\n" gives
    assert format_line(idx="0", text="宽松t恤", images=["iVBOR=="]) == "0\t宽松t恤\t['iVBOR==']\n"
    assert (
        format_line(idx="a", text="", images=["x", "y/+"], appended=["原文", "7"])
        == "a\t\t['x', 'y/+']\t原文\t7\n"
    )
    assert (
        format_line(idx="a", text="b", images=["x"], output_schema=["gen_imgbase64", "idx"]) == "['x']\ta\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"idx": "a", "text": "b", "images": [], "output_schema": ["idx", "score"]}, "no column score"),
        ({"idx": "a", "text": "b", "images": [], "appended": ["x\ty"]}, r"a tab or a line end in 'x\\ty'"),
        ({"idx": "a\n", "text": "b", "images": []}, "a tab or a line end"),
    ],
)
def test_lines_that_would_break(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        format_line(**arguments)


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("宽松 T-Shirts", 32, "宽松t-shirts"),  # lower case, spaces gone, word pieces glued
        ("宽松\U0001f600恤", 32, "宽松恤"),  # unknown tokens vanish
        ("宽松恤宽松恤", 4, "宽松恤宽"),  # cut by tokens
        ("shirts", 1, "shirt"),
        ("[PAD]宽", 32, "宽"),
        ("", 32, ""),
    ],
)
def test_text_is_what_the_model_saw(text: str, length: int, expected: str) -> None:
    tokenizer = from_vocab("\n".join(VOCAB).encode())
    assert model_text(tokenizer, text, length) == expected


def test_cells_are_read_in_both_forms() -> None:
    one = base64.b64encode(b"a picture").decode()
    two = base64.urlsafe_b64encode(b"\xfb\xff\xfe another").decode()
    for images in ([one], [one, two]):
        cell = format_line(idx="0", text="", images=images).split("\t")[2]
        assert read_cell(cell) == images
    assert read_cell(one) == [one]
    assert read_cell(f" {two} ") == [two]


@pytest.mark.parametrize(
    "cell", ["", "[]", "['']", "['abc', 'd e']", '["abc"]', "b'abc'", "['a'] + ['b']", "a b", "=abc"]
)
def test_other_cells_are_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="no base64"):
        read_cell(cell)


def test_picture_is_pillows_default_png() -> None:
    picture = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    data = base64.b64decode(encode_picture(picture))
    out = BytesIO()
    Image.fromarray(picture).save(out, format="PNG")
    assert data == out.getvalue()
    # our own tables' PNG holds the same pixels
    ours = Image.open(BytesIO(encode_image(picture, "png")))
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(Image.open(BytesIO(data))))
