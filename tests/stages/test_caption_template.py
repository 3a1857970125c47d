"""--caption-column-template: a caption of several columns, of every kind of source that has columns."""

import csv
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.errors import Reject
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.rejects import rejects_path
from painter_core.stages.make_table.template import CaptionTemplate
from painter_core.stages.make_table.write import write_table
from tests.support.sources import b64, picture

TEMPLATE = "{title},{style.name}风格"
RECORDS = [
    {"idx": "a", "title": "红色的杯子", "style": {"name": "水彩"}, "text": "不用这个"},
    {"idx": "b", "title": " 蓝色背包 ", "style": {"name": "漫画"}, "text": "不用这个"},
    {"idx": "c", "title": "", "style": {"name": "漫画"}, "text": "x"},
    {"idx": "d", "title": "帽子", "style": {"name": None}, "text": "x"},
]
EXPECTED = {"a": "红色的杯子,水彩风格", "b": "蓝色背包,漫画风格"}


def made(source: Path, out: Path, template: str = TEMPLATE, **flags: object) -> dict[str, str]:
    """idx -> caption of the table."""
    given = {"overwrite": True, "max_reject_fraction": 1.0} | flags
    config = MakeTableConfig(outputs=str(out), source=str(source), caption_column_template=template, **given)
    write_table(config)
    return {row["idx"]: row["text"] for row in pq.read_table(out).to_pylist()}


def rejected(out: Path) -> list[tuple[str, str]]:
    lines = pq.read_table(rejects_path(str(out))).to_pylist()
    return [(line["column"], line["reason"]) for line in lines]


def write_json(path: Path) -> Path:
    lines = (json.dumps(r | {"image": b64(picture(i))}, ensure_ascii=False) for i, r in enumerate(RECORDS))
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_parquet(path: Path) -> Path:
    table = pa.Table.from_pylist([r | {"image": picture(i), "n": i} for i, r in enumerate(RECORDS)])
    pq.write_table(table, path)
    return path


def write_tar(path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for i, record in enumerate(RECORDS):
            for suffix, data in (("json", json.dumps(record).encode()), ("txt", b"x"), ("png", picture(i))):
                member = tarfile.TarInfo(f"{record['idx']}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("write", [write_json, write_parquet, write_tar])
def test_captions_are_put_together(write, tmp_path: Path) -> None:
    suffix = {write_json: "jsonl", write_parquet: "parquet", write_tar: "tar"}[write]
    out = tmp_path / "out" / "t.parquet"
    assert made(write(tmp_path / f"in.{suffix}"), out) == EXPECTED
    assert rejected(out) == [("title", "text_empty"), ("style", "text_empty")]


def test_columns_of_a_csv(tmp_path: Path) -> None:
    with (tmp_path / "in.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["idx", "colour", "title", "image", "a.b"])
        writer.writerow(["a", "红", "杯子", b64(picture(1)), "7"])
    out = tmp_path / "out" / "t.parquet"
    assert made(tmp_path / "in.csv", out, "{{{colour}}}{title}{a.b}") == {"a": "{红}杯子7"}
    with pytest.raises(ValueError, match=r"no column 'style' among .*\(--caption-column-template\)"):
        made(tmp_path / "in.csv", out, "{title},{style}")


def test_only_the_columns_of_a_template_are_read(tmp_path: Path) -> None:
    """A column that is not named may hold what could not be read."""
    images = [picture(i) for i in range(len(RECORDS))]
    bad = pa.array([b"\xff"] * len(RECORDS), pa.binary()).cast(pa.string(), safe=False)
    columns = {"idx": [r["idx"] for r in RECORDS], "title": ["杯"] * 4, "image": images}
    pq.write_table(pa.table(columns | {"other": bad}), tmp_path / "in.parquet")
    out = tmp_path / "out" / "t.parquet"
    assert set(made(tmp_path / "in.parquet", out, "一个{title}").values()) == {"一个杯"}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("红色的杯子", "names no column"),
        ("{title", "expected '}'|expected text with names of columns"),
        ("{}", "is no column"),
        ("{title:>10}", "is no column"),
        ("{title!r}", "is no column"),
    ],
)
def test_what_is_no_template_is_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MakeTableConfig(outputs="t.tsv", source="s", caption_column_template=template)


def test_it_goes_with_a_source_and_without_another_caption() -> None:
    for flags, message in (
        ({"pictures": "p"}, "--caption-column-template: only with --source"),
        ({"source": "s", "first_sequence": "title"}, "says already what the caption is"),
    ):
        with pytest.raises(ValueError, match=message):
            MakeTableConfig(outputs="t.tsv", caption_column_template="{title}", **flags)


def test_values_that_are_no_text() -> None:
    template = CaptionTemplate.parse("{n}个{title}")
    assert template.of({"n": 3, "title": "杯子"}) == "3个杯子"
    for value, reason in ((["杯子"], "record_damaged"), (True, "record_damaged"), (b"\xff", "text_encoding")):
        with pytest.raises(Reject) as error:
            template.of({"n": 3, "title": value})
        assert (error.value.reason, error.value.column) == (reason, "title")
    with pytest.raises(Reject, match="no 'title' in"):
        template.of({"n": 3})
