"""What --source finds, and which value of a record is the caption and which the picture."""

import csv
import io
import json
import logging
import pickle
import sys
from pathlib import Path

import lmdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.errors import Stop
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.rejects import rejects_path
from painter_core.stages.make_table.write import write_table
from tests.support.sources import b64, clip_lmdb, picture, tars

IMAGE = picture(1)


def made(source: object, out: Path, **flags: object) -> dict[str, str]:
    """idx -> caption of the table."""
    flags = {"overwrite": True, "max_reject_fraction": 1.0} | flags
    write_table(MakeTableConfig(outputs=str(out), source=str(source), **flags))
    return {row["idx"]: row["text"] for row in pq.read_table(out).to_pylist()}


def rejected(out: Path) -> list[tuple[str, str]]:
    lines = pq.read_table(rejects_path(str(out))).to_pylist()
    return [(line["reason"], line["detail"]) for line in lines]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "t.parquet"


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


# --- files ---------------------------------------------------------------------------------------------


def test_directories_patterns_and_lists(tmp_path: Path, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    record = {"text": "红", "image": b64(IMAGE)}
    for name in ("data/b/2.jsonl", "data/a/10.jsonl", "data/a/2.JSONL", "data/_tmp/9.jsonl", "data/.x.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines(path, record)
    (tmp_path / "data" / "README.md").write_text("x")
    made(tmp_path / "data", out)
    assert pq.read_table(out)["idx"].to_pylist() == ["10-1", "2-1", "2-1"]
    assert "passed over: 1 *.md" in caplog.text
    assert list(made(tmp_path / "data" / "*" / "1*.jsonl", out)) == ["10-1"]
    both = f"{tmp_path}/data/b/2.jsonl, {tmp_path}/data/a/10.jsonl"
    assert list(made(both, out)) == ["2-1", "10-1"]
    with pytest.raises(ValueError, match="an empty name"):
        made(f"{both},", out)
    with pytest.raises(ValueError, match="is named twice"):
        made(f"{both},{tmp_path}/data/b", out)
    lines(tmp_path / "data" / "c.csv", "x")
    with pytest.raises(ValueError, match=r"several kinds of files \(csv, json\).*name those"):
        made(tmp_path / "data", out)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.tar", None, "no such file or directory"),
        ("a.tar.gz", b"\x1f\x8b", r"nothing there to read \(1 \*\.gz\).*has to be unpacked"),
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b'[{"text": 1}]', "one JSON array"),
        pytest.param("a.jsonl", b"[" * 10**5, "one JSON array", id="deep"),
        ("a.jsonl", b"\x1f\x8babc", "compressed by gzip"),
        ("a.jsonl", "\ufeff红".encode("utf-16"), "UTF-16"),
        ("a.jsonl", '{"text": "红色的杯子和蓝色的鞋子"}\n'.encode("gb18030") * 5, "--encoding gb18030"),
        ("a.csv", b"idx;text;image\n1;a;b\n", "separated by ';', expected commas"),
        ("a.csv", b"idx\ttext\timage\n1\ta\tb\n", r"separated by '\\t'"),
        ("a.csv", b"text,text,image\n", r"\['text'\] stand twice"),
        ("a.csv", b"1,red,a.jpg\n2,blue,b.jpg\n", "no header for this: no picture among .*--second-sequence"),
        ("a.csv", b"idx,image\n1,a.jpg\n", "no caption among its columns.*--first-sequence"),
        ("a.csv", b"text,image\ra,b\r", "a.csv line 1: no CSV: .*lines must end as in Unix"),
        ("a.csv", b"text,image\n", "a.csv: no rows"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        ("a.tar", b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        ("a.tar", b"<!doctype html><html>", "a web page"),
        ("a.jsonl", b"<!doctype html><html>", "a web page"),
        ("a.jsonl", b'{\n "text": "a"}', "a JSON document"),
        ("a.parquet", b"PAR1abcPAR1", "damaged Parquet"),
        ("a.parquet", b"idx,text\n", "damaged Parquet"),
    ],
)
def test_what_cannot_be_read_is_named(
    name: str, content: bytes | None, message: str, tmp_path: Path, out: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        made(tmp_path / name, out)
    assert not out.exists()


def test_the_own_output_is_no_input(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["红"], "image": [IMAGE]}), tmp_path / "a.parquet")
    out = tmp_path / "t.parquet"
    assert made(tmp_path, out) == made(tmp_path, out) == {"a-1": "红"}


def test_flags_that_do_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="--first-sequence: only with --source"):
        MakeTableConfig(outputs="x.tsv", pictures="a", first_sequence="caption")
    with pytest.raises(ValueError, match="leave out --captions"):
        MakeTableConfig(outputs="x.tsv", source="a.tar", captions="c.tsv")
    with pytest.raises(ValueError, match="--max-reject-fraction"):
        MakeTableConfig(outputs="x.tsv", source="a.tar", max_reject_fraction=2)


# --- records -------------------------------------------------------------------------------------------


def test_a_row_for_every_caption(tmp_path: Path, out: Path) -> None:
    struct = pa.struct([("raw", pa.string()), ("n", pa.int64())])
    table = pa.table(
        {
            "key": ["a", "b", "c"],
            "jpg": pa.array([[{"bytes": IMAGE}], [{"bytes": IMAGE}], [{"bytes": IMAGE}] * 2]),
            "names": pa.array([["红", "蓝"], ["绿"], ["白"]]),
            "said": pa.array(
                [[{"raw": "大", "n": 1}, {"raw": "", "n": 1}], [], [{"raw": "x"}]], pa.list_(struct)
            ),
        }
    )
    pq.write_table(table, path := tmp_path / "a.parquet")
    flags = {"idx_column": "key", "second_sequence": "jpg"}
    assert made(path, out, first_sequence="names", **flags) == {"a-0": "红", "a-1": "蓝", "b": "绿"}
    assert rejected(out) == [("record_damaged", "list, expected a picture or its path")]
    assert made(path, out, first_sequence="said", **flags) == {"a-0": "大"}  # the only string in it
    assert [reason for reason, _ in rejected(out)] == ["text_empty", "text_empty", "record_damaged"]


def test_paths_are_in_the_folder_that_is_named(tmp_path: Path, out: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "meta").mkdir()
    (tmp_path / "photos" / "a" / "1.jpg").write_bytes(IMAGE)
    (tmp_path / "photos" / "2").write_bytes(IMAGE)
    (tmp_path / "photos" / "linked.jpg").symlink_to(tmp_path / "photos" / "2")
    inside = str(tmp_path / "photos" / "a" / "1.jpg")
    paths = ["a/1.jpg", "./a//1.jpg", inside, "2", "linked.jpg", "a/../a/1.jpg", "../photos/2"]
    path = lines(tmp_path / "meta" / "m.jsonl", *({"file_name": p, "text": p} for p in paths))
    assert made(path, out, pictures=str(tmp_path / "photos")) == {p: p for p in paths}
    outside = ["a/../../meta/m.jsonl", "/etc/passwd", "../photos2/x", ".."]
    outside += [str(tmp_path / "photos") + "/../meta/m.jsonl"]
    lines(path, *({"file_name": p, "text": p} for p in outside))
    with pytest.raises(Stop, match="path_outside"):
        made(path, out, pictures=str(tmp_path / "photos"))
    assert {reason for reason, _ in rejected(out)} == {"path_outside"}
    assert len(rejected(out)) == len(outside)


def test_files_that_are_no_pictures_to_read(tmp_path: Path, out: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2**26 + 1)
    (tmp_path / "dead.jpg").symlink_to("nowhere")
    (tmp_path / "good.jpg").write_bytes(IMAGE)
    names = ["pipe.jpg", "huge.jpg", "dead.jpg", "x" * 300 + ".jpg", "good.jpg"]
    lines(tmp_path / "m.jsonl", *({"file": name, "text": "红"} for name in names))
    assert made(tmp_path / "m.jsonl", out) == {"good.jpg": "红"}
    assert [reason for reason, _ in rejected(out)] == ["img_missing", "cell_too_large"] + ["img_missing"] * 2


def test_hostile_json_lines(tmp_path: Path, out: Path) -> None:
    good = json.dumps({"text": "红", "image": b64(IMAGE)})
    bad = [
        "[" * 10**5,
        '{"a":' * 10**5,
        '{"text": ' + "9" * 5000 + "}",
        '{"text": NaN}',
        "null",
        '"a"',
        good[:-1],
    ]
    bad += [
        json.dumps({"text": text, "image": b64(IMAGE)})
        for text in (3, True, {}, [[["红"]]], {"a": "b", "c": "d"})
    ]
    bad += [json.dumps({"text": "红", "image": image}) for image in (3, [], {}, {"bytes": 3}, ["a", "b"])]
    bad += [
        json.dumps({"text": "红", "image": b64(IMAGE), "idx": idx}) for idx in (1.5, True, ["a"], "a\tb", "")
    ]
    (tmp_path / "a.jsonl").write_text("\n".join([good, *bad]))
    assert made(tmp_path / "a.jsonl", out) == {"a-1": "红"}
    assert len(rejected(out)) == len(bad)
    assert {reason for reason, _ in rejected(out)} == {"record_damaged", "img_empty", "idx_invalid"}


def test_csv_with_large_cells_and_lines_in_quotes(tmp_path: Path, out: Path) -> None:
    image = IMAGE + bytes(2**18)  # csv's own limit is 128 KiB
    text = io.StringIO()
    rows = [["一", b64(image), "a\nb"], ["二", b64(IMAGE), 'x"y'], ["三", b64(IMAGE), ""]]
    csv.writer(text).writerows([["caption", "image", "idx"], *rows])
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode() + b"\r\n\n")
    assert made(tmp_path / "a.csv", out) == {'x"y': "二"}
    assert [reason for reason, _ in rejected(out)] == ["idx_invalid"] * 2
    assert pq.read_table(rejects_path(str(out)))["row"].to_pylist() == [2, 5]  # lines of the file
    assert list(made(tmp_path / "a.csv", out, idx_column="row")) == ["2", "4", "5"]
    (tmp_path / "g.csv").write_bytes(text.getvalue().encode("gb18030"))
    assert list(made(tmp_path / "g.csv", out, idx_column="row", encoding="gb18030").values()) == [
        "一",
        "二",
        "三",
    ]


# --- Chinese-CLIP's LMDB -------------------------------------------------------------------------------


def test_an_lmdb_that_is_not_whole(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "lmdb" / "train"
    folder.mkdir(parents=True)
    clip_lmdb(folder)
    with lmdb.open(str(folder / "pairs"), map_size=2**26) as env, env.begin(write=True) as texts:
        texts.put(b"200", pickle.dumps((1, 200, "红")))
    with pytest.raises(ValueError, match=r"num_samples is b'200', but 201 pairs are there"):
        made(folder, out)
    data = folder / "imgs" / "data.mdb"
    whole = data.read_bytes()
    for kept in (0.1, 0.5, 0.99):
        data.write_bytes(whole[: int(kept * len(whole))])
        with pytest.raises(ValueError, match=r"imgs/data.mdb: cut: it has [\d,]+ bytes of [\d,]+; fetch"):
            made(folder, out)
    data.write_bytes(b"no data base" * 1000)
    with pytest.raises(ValueError, match=r"damaged LMDB.*make it again"):
        made(folder, out)
    data.unlink()
    with pytest.raises(ValueError, match=r"damaged LMDB"):
        made(folder, out)


def test_without_the_package_it_is_named(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip_lmdb(tmp_path)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(
        ValueError, match=r"an LMDB; install the package for it: pip install 'painter\[lmdb\]'"
    ):
        made(tmp_path, out)


def test_prompts_of_a_source(tmp_path: Path) -> None:
    tars(tmp_path)
    out = tmp_path / "p.tsv"
    config = MakeTableConfig(outputs=str(out), source=str(tmp_path), prompts=True, max_reject_fraction=0.1)
    assert write_table(config) == len(out.read_text().splitlines()) == 193
    assert {line.count("\t") for line in out.read_text().splitlines()} == {1}
