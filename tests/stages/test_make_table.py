"""Folders of pictures and the sample as pairs tables."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from painter_core.errors import Refused
from painter_core.sample.pictures import sample_row
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.write import write_table
from tests.support.styles import parse_styled_caption

CAPTIONS = {"a.png": "红色的杯子", "sub/b.jpg": "蓝色的鞋子"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in CAPTIONS:
        Image.new("RGB", (20, 30), "red").save(folder / name)
    return folder


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "txt"])
def test_captions_from_a_file_or_beside_the_pictures(kind: str, photos: Path, tmp_path: Path) -> None:
    captions: Path | None = tmp_path / f"captions.{kind}"
    if kind == "tsv":
        captions.write_text("".join(f"{n}\t{t}\n" for n, t in CAPTIONS.items()), encoding="utf-8")
    elif kind == "jsonl":
        lines = (json.dumps({"file": n, "text": t}, ensure_ascii=False) for n, t in CAPTIONS.items())
        captions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        for name, text in CAPTIONS.items():
            (photos / name).with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
        captions = None
    out = tmp_path / "pairs.parquet"
    config = MakeTableConfig(
        outputs=str(out), pictures=str(photos), captions=str(captions) if captions else None
    )
    assert write_table(config) == 2
    assert {r["idx"]: r["text"] for r in rows(out)} == CAPTIONS
    assert rows(out)[0]["image"] == (photos / "a.png").read_bytes()
    with pytest.raises(Refused, match="--overwrite"):
        write_table(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.png\t红\n", "has no caption for 'sub/b.jpg'"),
        ("a.png\t红\nsub/b.jpg\t蓝\nc.png\t绿\n", "1 captions have no picture .* 'c.png'"),
        ("a.png\n", "line 1: expected file and text"),
        ("a.png\t红\na.png\t蓝\n", "line 2: 'a.png' stands twice"),
    ],
)
def test_captions_that_do_not_fit_are_named(content: str, message: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.tsv").write_text(content, encoding="utf-8")
    config = MakeTableConfig(
        outputs=str(tmp_path / "x.tsv"), pictures=str(photos), captions=str(tmp_path / "captions.tsv")
    )
    with pytest.raises(ValueError, match=message):
        write_table(config)
    assert not (tmp_path / "x.tsv").exists()


def test_sample_is_the_generators(tmp_path: Path) -> None:
    out = tmp_path / "sample.tsv"
    assert write_table(MakeTableConfig(outputs=str(out), sample=3, scenes=1, random_seed=9)) == 4
    lines = [line.split("\t") for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line[:2] for line in lines[:3]] == [
        [r.idx, r.text] for r in (sample_row(9, i, split="train") for i in range(3))
    ]
    prompts = tmp_path / "prompts.tsv"
    write_table(MakeTableConfig(outputs=str(prompts), sample=2, split="held_out", prompts=True))
    assert {len(line.split("\t")) for line in prompts.read_text(encoding="utf-8").splitlines()} == {2}


def test_wrong_flags_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either --pictures FOLDER or --sample N"):
        MakeTableConfig(outputs="x.tsv")
    with pytest.raises(ValueError, match=r"ends in .parquet or .tsv"):
        MakeTableConfig(outputs="x.csv", sample=1)


def test_the_sample_in_styles(tmp_path: Path) -> None:
    config = MakeTableConfig(outputs=str(tmp_path / "t.parquet"), sample=12, styles="线稿,漫画,线稿")
    assert config.style_names() == ("线稿", "漫画")
    assert write_table(config) == 12
    found = [parse_styled_caption(row["text"]) for row in rows(tmp_path / "t.parquet")]
    assert {a.style for a in found} == {"线稿", "漫画"}
    with pytest.raises(ValueError, match="--styles: got '油画', expected `all`, or some of 平涂"):
        MakeTableConfig(outputs="t.tsv", sample=1, styles="线稿,油画")
    with pytest.raises(ValueError, match="--styles: does nothing beside --pictures"):
        MakeTableConfig(outputs="t.tsv", pictures="p", styles="all")
