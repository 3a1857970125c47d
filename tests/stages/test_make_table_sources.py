"""Archives and tables of other tools as pairs tables: every row in the table or among the rejects."""

import re
import shlex
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from painter_core.errors import Stop
from painter_core.files.storage import filesystem
from painter_core.images.isolate import CellDecoder
from painter_core.runs.command_line import parse
from painter_core.stages.decode_pictures import DecodePictures
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.rejects import rejects_path
from painter_core.stages.make_table.write import write_table
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import plan_units
from tests.support.fake_store import FakeStore
from tests.support.jobs import ROOT
from tests.support.sources import COMMON, DECODED, EVERY, FORMS, ROWS, pairs, picture

FLAGS = {"parquet": {"first_sequence": "captions.raw"}}
COLUMNS = Columns(schema=("idx", "text", "imgbase64"), image="imgbase64")


def made(source: object, out: Path, **flags: object) -> tuple[list[dict], list[dict]]:
    """Rows and rejects of a table."""
    config = MakeTableConfig(outputs=str(out), source=str(source), **({"max_reject_fraction": 0.1} | flags))
    count = write_table(config)
    rows = pq.read_table(out).to_pylist()
    assert count == len(rows)
    rejects = Path(rejects_path(str(out)))
    return rows, pq.read_table(rejects).to_pylist() if rejects.exists() else []


def decoded(table: Path) -> tuple[int, Counter[str]]:
    """Rows that come through reading and decoding as in the jobs, and why others do not."""
    files = find_files(str(table))
    units = plan_units(files, COLUMNS, micro_batch_size=16, limit=None)
    decode = DecodePictures(
        decode=CellDecoder(image_size=16, resize="bilinear", alpha="white"),
        column="image",
        keep_rejected=False,
        in_child=False,
    )
    reader = UnitReader(files=files, columns=COLUMNS, stage="x", keep_rejected=False)
    found = [decode(unit) for unit in reader.read(units)]
    reasons = Counter(reason for unit in found for reason in unit.rejects["reason"].to_pylist())
    return sum(len(unit.table) for unit in found), reasons


@pytest.mark.parametrize("form", FORMS)
def test_every_row_is_accounted_for(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in" / "data", tmp_path / "pairs.parquet"
    folder.mkdir(parents=True)
    expected = Counter(FORMS[form](folder)) + Counter(COMMON)
    rows, rejects = made(folder, out, **FLAGS.get(form, {}))
    assert Counter(line["reason"] for line in rejects) == expected
    assert len(rows) + len(rejects) == ROWS
    assert decoded(out) == (ROWS - 10, DECODED)
    good = [pair for number, pair in enumerate(pairs()) if number % EVERY]
    whole = [row for row in rows if row["text"] != "红"]
    assert [(row["text"], row["image"]) for row in whole] == [(pair.text, pair.image) for pair in good]
    if not form.startswith("chinese-clip"):
        prefix = "a/" if form.startswith("tar") else ""
        assert [row["idx"] for row in whole] == [prefix + pair.idx for pair in good]
    assert "unpickled" not in capsys.readouterr().out
    assert {line["stage"] for line in rejects} == {"make_table"}
    assert all(line["file"] and line["row"] and line["detail"] for line in rejects)


@pytest.mark.parametrize("form", ["tar", "jsonl of base64", "parquet"])
def test_too_many_rejects_leave_no_table(form: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    FORMS[form](tmp_path / "data")
    out = tmp_path / "pairs.parquet"
    with pytest.raises(Stop, match=r"7 of 200 rows were rejected, more than .*The first is") as stop:
        made(tmp_path / "data", out, max_reject_fraction=0.01, **FLAGS.get(form, {}))
    assert stop.value.code == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_rejects-pairs.parquet", "data"]
    assert len(pq.read_table(tmp_path / "_rejects-pairs.parquet")) == 7


def test_a_wrong_column_stops_early(tmp_path: Path) -> None:
    """One reason on most of the first 1,000 rows."""
    line = '{"picture": "a.png", "text": "红"}\n'
    (tmp_path / "a.jsonl").write_text(line * 5000)
    with pytest.raises(Stop, match=r"record_damaged on 1000 of the first 1,000 rows.*--second-sequence"):
        made(tmp_path / "a.jsonl", tmp_path / "pairs.parquet")
    assert len(pq.read_table(tmp_path / "_rejects-pairs.parquet")) == 1000


def test_rejects_are_those_of_the_table_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    FORMS["jsonl of base64"](tmp_path / "data")
    source, out = tmp_path / "data" / "pairs.jsonl", tmp_path / "pairs.parquet"
    made(source, out)
    assert find_files(str(tmp_path / "*.parquet"))[0].path == str(out)
    assert [Path(file.path).name for file in find_files(str(tmp_path))] == ["pairs.parquet"]
    source.write_text(source.read_text().splitlines()[2] + "\n")
    assert made(source, out, overwrite=True)[1] == []
    assert not (tmp_path / "_rejects-pairs.parquet").exists()


DIRECTORIES = ("shards", "shards_json", "lines", "folder", "csv", "parquet", "clip", "clip_lmdb")


def test_the_commands_of_the_page_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "INPUTS.md").read_text()
    commands = re.findall(r"`python (jobs/make_table\.py .*?)`", page)
    assert len(commands) == 2 + len(FORMS)
    for name, form in zip(DIRECTORIES, FORMS, strict=True):
        (tmp_path / name).mkdir()
        FORMS[form](tmp_path / name)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(picture(0))
    (tmp_path / "photos" / "a.txt").write_text("红")
    (tmp_path / "captions.tsv").write_text("a.png\t红\n")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        words = shlex.split(command.replace("$DATA", str(tmp_path)))
        monkeypatch.setattr("sys.argv", [*words, "--overwrite", "--max-reject-fraction", "0.1"])
        assert write_table(parse(MakeTableConfig, "")) == (1 if "--pictures" in words else ROWS - 7)


def test_sources_in_an_object_store(store: type[FakeStore], tmp_path: Path) -> None:
    """Every fifth request fails."""
    for form in ("tar", "jsonl of base64", "image folder", "csv of paths", "parquet", "chinese-clip tsv"):
        folder = tmp_path / form / "data"
        folder.mkdir(parents=True)
        FORMS[form](folder)
        local, _ = made(folder, tmp_path / "local.parquet", overwrite=True, **FLAGS.get(form, {}))
        fs, top = filesystem("s3://bucket/data")
        for path in folder.rglob("*"):
            if path.is_file():
                fs.pipe_file(f"{top}/{path.relative_to(folder)}", path.read_bytes())
        FakeStore.failing = 0.2
        rows, _ = made("s3://bucket/data", tmp_path / "t.parquet", overwrite=True, **FLAGS.get(form, {}))
        FakeStore.failing = 0.0
        assert rows == local
        fs.rm(top, recursive=True)
