"""Folders as people have them: every file is a row, or counted by its suffix, or refused by its name."""

import codecs
import csv
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from painter_core.errors import Stop
from painter_core.files.storage import filesystem
from painter_core.images.decode import FORMATS
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.folder import OTHER_PICTURES, PICTURES
from painter_core.stages.make_table.write import write_table
from painter_core.tables.columns import Encoding
from tests.support.fake_store import FakeStore
from tests.support.jobs import ROOT
from tests.support.unprivileged import open_path, unprivileged  # noqa: F401  a fixture

CAPTIONS = {"a.png": "红色的杯子", "sub/b.jpg": "蓝色的鞋子"}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return put(tmp_path / "photos", *CAPTIONS, beside="")


def put(folder: Path, *names: str, beside: str = "红") -> Path:
    """Pictures, each with a caption beside it unless that is empty."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 30), "red").save(path, "PNG")
        if beside:
            path.with_suffix(".txt").write_text(beside, encoding="utf-8")
    return folder


def made(folder: Path, captions: Path | None = None, encoding: Encoding = "utf-8") -> dict[str, str]:
    """idx and caption of the rows of a table of a folder."""
    out = folder.parent / "out.parquet"
    flags = {"pictures": str(folder), "captions": str(captions) if captions else None}
    count = write_table(MakeTableConfig(outputs=str(out), overwrite=True, encoding=encoding, **flags))
    rows = pq.read_table(out).to_pylist()
    assert count == len(rows)
    assert all(row["image"] == (folder / row["idx"]).read_bytes() for row in rows)
    return {row["idx"]: row["text"] for row in rows}


def test_suffixes_are_those_of_the_formats_that_jobs_read() -> None:
    pillow = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert pillow <= set(PICTURES)
    assert not set(PICTURES) & set(OTHER_PICTURES)
    assert {".tif", ".tiff", ".heic", ".jp2", ".svg"} <= set(OTHER_PICTURES)


def test_every_suffix_is_a_row_or_counted(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    names = ["1.jpg", "2.jfif", "3.JPEG", "4.PNG", "5.webp", "6.bmp", "7.avif"]
    others = ["8.tif", "9.heic", "10.HEIC"]
    folder = put(tmp_path / "photos", *names, *others)
    (folder / "notes.md").write_text("x")
    (folder / "lonely.txt").write_text("红")
    assert sorted(made(folder)) == sorted(names)
    (line,) = (r.getMessage() for r in log.records if "7 pictures; passed over" in r.getMessage())
    counts = line.partition("passed over: ")[2].split(", ")
    assert sorted(counts) == ["1 *.HEIC", "1 *.heic", "1 *.md", "1 *.tif", "4 *.txt"]
    assert "3 pictures in formats that no job reads were passed over" in log.text
    assert "convert them to JPEG or PNG" in log.text
    assert "4 .txt files have no picture" in log.text


def test_names_that_are_no_pictures(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    folder = put(tmp_path / "photos", "_DSC0001.JPG", "p0.jpg")
    put(folder, "._p0.jpg", ".ipynb_checkpoints/p0-checkpoint.jpg", "__MACOSX/p0.jpg", beside="")
    (folder / ".DS_Store").write_bytes(b"x")
    assert sorted(made(folder)) == ["_DSC0001.JPG", "p0.jpg"]
    assert "passed over: 4 hidden" in log.text


def test_links(tmp_path: Path) -> None:
    put(tmp_path / "pool", "x/1.png", "x/2.png")
    folder = put(tmp_path / "photos", "3.png")
    (folder / "x").symlink_to(tmp_path / "pool/x")
    (folder / "loop").symlink_to(folder)
    (folder / "4.png").symlink_to(folder / "3.png")
    (folder / "4.txt").write_text("绿")
    assert made(folder) == {"3.png": "红", "4.png": "绿", "x/1.png": "红", "x/2.png": "红"}
    (folder / "5.png").symlink_to("gone.png")
    with pytest.raises(ValueError, match=r"5\.png: a link to nothing"):
        made(folder)


def test_what_cannot_be_read_is_named(open_path: Path) -> None:  # noqa: F811
    folder = put(open_path / "photos", "a.png", "sub/b.png")
    config = MakeTableConfig(outputs=str(open_path / "out/x.tsv"), pictures=str(folder))
    (open_path / "out").mkdir()
    (open_path / "out").chmod(0o777)
    for path in (folder / "sub", folder / "sub/b.png", folder / "a.txt"):
        mode = path.stat().st_mode
        path.chmod(0o000)
        with unprivileged(), pytest.raises(ValueError, match=f"{path}"):
            write_table(config)
        path.chmod(mode)
    assert os.listdir(open_path / "out") == []
    with unprivileged():
        assert write_table(config) == 2


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("红色的杯子".encode("gb18030"), "not UTF-8 .*--encoding gb18030: .*'红色的杯子'"),
        (codecs.BOM_UTF16_LE + "红".encode("utf-16-le"), "UTF-16; convert it"),
    ],
)
def test_captions_in_other_encodings_are_named(data: bytes, what: str, photos: Path, tmp_path: Path) -> None:
    (photos / "a.txt").write_bytes("红".encode())
    (photos / "sub/b.txt").write_bytes(data)
    with pytest.raises(ValueError, match=rf"sub/b\.txt: {what}"):
        made(photos)
    for name in ("c.tsv", "c.jsonl", "c.csv"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=rf"{name}: {what}"):
            made(photos, tmp_path / name)


def test_captions_in_gb18030(photos: Path, tmp_path: Path) -> None:
    tsv = "\ufeff" + "".join(f"{name}\t{text}\r\n" for name, text in CAPTIONS.items())
    (tmp_path / "c.tsv").write_bytes(tsv.encode("gb18030"))
    assert made(photos, tmp_path / "c.tsv", encoding="gb18030") == CAPTIONS
    (tmp_path / "c.tsv").write_text(tsv, encoding="utf-8")
    with pytest.raises(ValueError, match="this is UTF-8: leave out --encoding"):
        made(photos, tmp_path / "c.tsv", encoding="gb18030")
    for name, text in CAPTIONS.items():
        (photos / name).with_suffix(".txt").write_bytes(text.encode("gb18030"))
    assert made(photos, encoding="gb18030") == CAPTIONS


def test_byte_order_marks_are_no_part_of_a_caption(photos: Path, tmp_path: Path) -> None:
    for name, text in CAPTIONS.items():
        (photos / name).with_suffix(".txt").write_text("\ufeff" + text + "\r\n", encoding="utf-8")
    assert made(photos) == CAPTIONS
    tsv = "".join(f"{name}\t{text}\r\n" for name, text in CAPTIONS.items())
    lines = "".join(json.dumps({"file": n, "text": t}) + "\n" for n, t in CAPTIONS.items())
    for name, content in (("c.tsv", tsv), ("c.jsonl", lines)):
        (tmp_path / name).write_text("\ufeff" + content, encoding="utf-8")
        assert made(photos, tmp_path / name) == CAPTIONS


def test_hugging_faces_metadata(photos: Path, tmp_path: Path) -> None:
    """metadata.jsonl and metadata.csv in the folder itself; other columns are no matter."""
    lines = [json.dumps({"file_name": n, "text": t, "label": 1}) for n, t in CAPTIONS.items()]
    (photos / "metadata.jsonl").write_text("\n".join(lines) + "\n\n \n", encoding="utf-8")
    assert made(photos, photos / "metadata.jsonl") == CAPTIONS
    captions = CAPTIONS | {"a.png": '红色, "大"的\n杯子'}
    with (photos / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(1, name, text) for name, text in captions.items()]
        csv.writer(file).writerows([("label", "file_name", "text"), *rows])
    assert made(photos, photos / "metadata.csv") == captions
    (tmp_path / "c.tsv").write_text(
        "file\ttext\n" + "".join(f"./{n}\t{t}\n" for n, t in CAPTIONS.items()) + "\n", encoding="utf-8"
    )
    assert made(photos, tmp_path / "c.tsv") == CAPTIONS


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("c.jsonl", '{"file": "a.png", "text": ["红", "蓝"]}\n', "line 1: text is list, expected one string"),
        ("c.jsonl", '{"file": "a.png", "text": null}\n', "line 1: text is null, expected one string"),
        ("c.jsonl", '{"file": "a.png", "text": 3}\n', "line 1: text is int, expected one string"),
        ("c.jsonl", '{"file": null, "text": "红"}\n', "line 1: file is null"),
        ("c.jsonl", '\n["a.png", "红"]\n', "line 2: expected file and text in an object, got list"),
        (
            "c.jsonl",
            '{"image": "a.png", "text": "红"}\n',
            r"line 1: expected file and text, got \['image', 'text'\]",
        ),
        (
            "c.json",
            '[{"file": "a.png",\n "text": "红"}]\n',
            "line 1: .*the file is one JSON array: write each",
        ),
        (
            "c.json",
            '[{"file": "a.png", "text": "红"}]\n',
            "line 1: expected file and text in an object, got list",
        ),
        pytest.param("c.jsonl", '{"file":' * 10**5, "line 1: expected file and text", id="deep"),
        ("c.csv", "a.png,红\n", "line 1: expected a header with file_name and text"),
        ("c.csv", 'file,text\na.png,"红\n', "line 2: unexpected end of data"),
        ("c.tsv", "a.png\t红\t1\n", "line 1: expected file and text, got 3 columns instead of 2"),
        ("c.tsv", "a.png\t红\n\na.png\t蓝\n", r"line 3: 'a\.png' stands twice"),
        ("c.tsv", "", r"has no caption for 'a\.png' and 1 other pictures"),
    ],
)
def test_captions_that_are_none_are_named(
    name: str, content: str, what: str, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name}.*{what}"):
        made(photos, tmp_path / name)
    assert not (tmp_path / "out.parquet").exists()


def test_captions_of_pictures_that_no_job_reads(photos: Path, tmp_path: Path) -> None:
    put(photos, "c.heic", beside="")
    lines = [f"{name}\t{text}\n" for name, text in (CAPTIONS | {"c.heic": "绿"}).items()]
    (tmp_path / "c.tsv").write_text("".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=r"'c\.heic', which is no jpg/jpeg/.*: convert it"):
        made(photos, tmp_path / "c.tsv")


@pytest.mark.parametrize("captions", ["missing.tsv", "photos"])
def test_a_captions_file_that_cannot_be_read(captions: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--captions .*{captions}: cannot be read"):
        made(photos, tmp_path / captions)


def test_file_names_outside_utf8_are_named(photos: Path) -> None:
    with open(os.fsencode(photos) + b"/\xff.png", "wb") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="the file name is not UTF-8"):
        made(photos)


def test_rows_come_in_the_order_of_names(tmp_path: Path) -> None:
    folder = put(tmp_path / "photos", "b.png", "a/2.png", "a.png", "a/10.png")
    assert list(made(folder)) == ["a/10.png", "a/2.png", "a.png", "b.png"]


def test_the_job_ends_with_2_for_a_users_mistake(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "jobs/make_table.py"), "--outputs", str(tmp_path / "x.tsv")]
    command += ["--pictures", str(photos), "--captions", str(tmp_path / "none.tsv")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert "none.tsv: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


MEMORY = """
import resource, sys
from painter_core.stages.make_table import write
from painter_core.stages.make_table.config import MakeTableConfig
write.ROW_GROUP_BYTES = 16 * 2**20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = write.write_table(MakeTableConfig(outputs=sys.argv[1], pictures=sys.argv[2]))
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.long
@pytest.mark.parametrize("suffix", ["parquet", "tsv"])
def test_memory_holds_one_row_group(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    data = os.urandom(2**21)
    for number in range(100):  # 200 MiB
        (folder / f"{number}.png").write_bytes(data)
        (folder / f"{number}.txt").write_text("红")
    command = [sys.executable, "-c", MEMORY, str(tmp_path / f"x.{suffix}"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    rows, mib = map(int, done.stdout.split())
    assert rows == 100
    assert mib < 120
    if suffix == "parquet":
        metadata = pq.read_metadata(tmp_path / "x.parquet")
        assert {metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)} == {8, 4}


def test_a_table_goes_to_an_object_store_whole_or_not_at_all(
    store: type[FakeStore], photos: Path, tmp_path: Path
) -> None:
    (photos / "a.txt").write_text("红", encoding="utf-8")
    (photos / "sub/b.txt").write_text("蓝\t色", encoding="utf-8")
    with pytest.raises(Stop, match=r"1 of 2 rows were rejected.*text_control: .*b\.jpg.*write a \.parquet"):
        write_table(MakeTableConfig(outputs="s3://b/x.tsv", pictures=str(photos)))
    assert list(FakeStore.store) == ["/b/_rejects-x.tsv.parquet"]
    FakeStore.failing = 0.3
    for suffix in ("tsv", "parquet"):
        (photos / "sub/b.txt").write_text("蓝", encoding="utf-8")
        for outputs in (f"s3://b/x.{suffix}", str(tmp_path / f"x.{suffix}")):
            assert write_table(MakeTableConfig(outputs=outputs, pictures=str(photos))) == 2
        fs, path = filesystem(f"s3://b/x.{suffix}")
        assert fs.cat_file(path) == (tmp_path / f"x.{suffix}").read_bytes()
