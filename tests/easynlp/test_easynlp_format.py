"""EasyNLP's output lines, to the byte, the flag that asks for them, and both forms of a picture cell."""

import base64
from io import BytesIO

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from painter_core.easynlp.output import encode_picture, model_text, picture_cell, read_cell
from painter_core.images.decode import encode_image
from painter_core.runs.flags import TableFlags
from painter_core.sample.pictures import sample_row
from painter_core.stages.evaluate.judging import Judging
from painter_core.stages.evaluate.prepare import PreparePictures, ScoresPart
from painter_core.stages.generate.config import GenerateConfig
from painter_core.tables.manifest import tsv_bytes
from painter_core.text.tokenizer import from_vocab
from tests.support.units import unit_row

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


def generate_config(**changes: object) -> GenerateConfig:
    """Flags of jobs/generate.py."""
    table = TableFlags(tables="prompts.tsv", outputs=str(changes.pop("outputs", "X.tsv")))
    return GenerateConfig(table=table, checkpoint_dir="m", easynlp_format=True, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # what "\t".join(str(v) for v in (idx, text, [images], *appended)) + "\n" gives
        ({}, "7\t宽松t恤\t['{0}']\n8\t\t['{1}']\n"),
        ({"append_cols": "原文"}, "7\t宽松t恤\t['{0}']\t宽松 T恤\n8\t\t['{1}']\t\n"),
        ({"output_schema": "gen_imgbase64,idx"}, "['{0}']\t7\n['{1}']\t8\n"),
        ({"max_generated_num": 2}, "7\t宽松t恤\t['{0}', '{1}']\n8\t\t['{2}', '{3}']\n"),
    ],
)
def test_lines_as_easynlp_writes_them(changes: dict, expected: str) -> None:
    config = generate_config(**changes)
    pictures = np.random.RandomState(0).randint(0, 256, (2 * config.max_generated_num, 16, 16, 3), np.uint8)
    prompts = pa.table({"idx": ["7", "8"], "text": ["宽松t恤", ""], "原文": ["宽松 T恤", None]})
    row = unit_row(prompts).carrying(pixels=pictures.tobytes(), image_size=16, image_len=4)
    images = [encode_picture(picture) for picture in pictures]
    assert tsv_bytes(config.output_table()(row)).decode() == expected.format(*images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs": "pictures/"}, "--easynlp-format: .* --outputs pictures/ .* expected X.tsv"),
        ({"image_format": "jpeg"}, "--easynlp-format: .* --image-format jpeg, expected .* png"),
        ({"output_schema": "idx,sample"}, r"--output-schema: unknown columns \['sample'\]"),
    ],
)
def test_flags_that_easynlps_lines_cannot_follow(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_config(**changes)


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
        assert read_cell(picture_cell(images)) == images
    assert read_cell(one) == [one]
    assert read_cell(f" {two} ") == [two]


@pytest.mark.parametrize(
    "cell", ["", "[]", "['']", "['abc', 'd e']", '["abc"]', "b'abc'", "['a'] + ['b']", "a b", "=abc"]
)
def test_other_cells_are_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="no base64"):
        read_cell(cell)


@pytest.mark.long
def test_scores_read_both_forms() -> None:
    rows = [sample_row(5, i, split="train", image_size=64) for i in range(3)]
    images = [encode_picture(np.asarray(row.image)) for row in rows]
    cells = [images[0], picture_cell([images[1], images[2]]), "['abc', 7]"]
    table = pa.table(
        {
            "file": ["f"] * 3,
            "row": pa.array([1, 2, 3], pa.int64()),
            "byte_offset": pa.array([0, 1, 2], pa.int64()),
            "idx": ["a", "b", "c"],
            "text": [row.text for row in rows],
            "image": cells,
        }
    )
    judging = Judging(attributes=True, columns={"text": "text", "image": "gen_imgbase64"})
    found = PreparePictures(judging=judging, keep_rejected=False)(unit_row(table))
    scores = ScoresPart(judging=judging)(found).to_pylist()
    assert [row["idx"] for row in scores] == ["a", "b", "b"], "a row a picture"
    assert [(row["row"], row["sample"]) for row in scores] == [(1, 0), (2, 0), (2, 1)]
    assert [row["read_kind"] for row in scores] == [row.attributes.kind for row in rows]
    assert found.table.column("idx").to_pylist() == ["a", "b"]
    (reject,) = found.rejects.to_pylist()
    assert (reject["idx"], reject["reason"], reject["column"]) == ("c", "b64_repr", "gen_imgbase64")


def test_picture_is_pillows_default_png() -> None:
    picture = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    data = base64.b64decode(encode_picture(picture))
    out = BytesIO()
    Image.fromarray(picture).save(out, format="PNG")
    assert data == out.getvalue()
    # our own tables' PNG holds the same pixels
    ours = Image.open(BytesIO(encode_image(picture, "png")))
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(Image.open(BytesIO(data))))
