"""jobs/inspect_table.py: what it says of every kind of table, and of one that is not done."""

import base64
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from painter_core.errors import Refused
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import Report, inspect
from painter_core.stages.inspect_table.stats import CaptionStats, RepeatStats
from painter_core.stages.inspect_table.text import to_text
from painter_core.text.tokenizer import from_vocab
from tests.support.codes_table import make_codes
from tests.support.jobs import ROOT, sample_cell

sys.path.insert(0, str(ROOT / "jobs"))
import inspect_table


def look(path: Path, **options: object) -> Report:
    return inspect(InspectConfig(tables=str(path), **options))  # type: ignore[arg-type]


def cell(picture: Image.Image, image_format: str = "PNG") -> str:
    out = io.BytesIO()
    picture.save(out, image_format)
    return base64.b64encode(out.getvalue()).decode()


def test_a_pairs_table(tmp_path: Path) -> None:
    blank = cell(Image.new("RGB", (40, 30), "white"))
    rows = [(f"r{i}", f"红色{i}", sample_cell(i)) for i in range(6)]
    rows += [("r1", "红", blank), ("x", "绿", blank), ("y", "绿", cell(Image.new("L", (64, 64)), "JPEG"))]
    rows += [("", "红", blank), ("z", "红", base64.b64encode(b"<html>").decode()), ("w", "", blank)]
    (tmp_path / "t.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    report = look(tmp_path / "t.tsv", outputs=str(tmp_path / "out"))
    assert (report.kind, report.num_rows, report.rows_read) == ("pairs", 12, 12)
    assert report.rejects == {"idx_invalid": 1, "text_empty": 1}
    assert report.schema == ["idx string", "text string", "imgbase64 string"]
    assert (report.idx.num_repeated, report.idx.examples) == (1, ["r1"])
    assert report.pictures is not None
    assert report.pictures.formats == {"PNG": 8, "JPEG": 1}
    assert report.pictures.modes == {"RGB": 8, "L": 1}
    assert report.pictures.sizes == {"64x64": 7, "40x30": 2}
    assert (report.pictures.num_blank, report.pictures.rejected) == (3, {"img_unidentified": 1})
    assert report.picture_cells is not None
    assert report.picture_cells.num_repeated == 1
    assert any(line.startswith("idx_invalid: ") and "line 10" in line for line in report.rejected)
    # eight rows, spread; one place fell behind the rejected rows, one row has no picture
    assert len(report.samples) == 7
    files = sorted((tmp_path / "out").iterdir())
    assert [s.file for s in report.samples if s.file] == [str(f) for f in files]
    assert base64.b64encode(files[0].read_bytes()).decode() == rows[0][2]
    assert {f.suffix for f in files} == {".png", ".jpg"}
    with pytest.raises(Refused, match="not empty"):
        look(tmp_path / "t.tsv", outputs=str(tmp_path / "out"))


def test_prompts_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("1\t红色的杯子\n2\t蓝\n")
    report = look(tmp_path / "p.tsv")
    assert (report.kind, report.num_rows, report.pictures) == ("prompts", 2, None)
    images = [base64.b64decode(sample_cell(i)) for i in range(3)]
    table = pa.table({"idx": [1, 2, 3], "caption": ["红"] * 3, "image": images})
    pq.write_table(table, tmp_path / "t.parquet")
    report = look(tmp_path / "t.parquet", first_sequence="caption")
    assert (report.kind, report.num_rows) == ("pairs", 3)
    assert report.schema == ["idx int64", "caption string", "image binary"]
    assert report.pictures is not None
    assert report.pictures.num_decoded == 3


def test_tables_without_idx_or_captions(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("红色的杯子\n蓝\n")
    report = look(tmp_path / "p.txt")
    assert (report.kind, report.num_rows, report.rejects) == ("prompts", 2, {})
    assert {sample.idx for sample in report.samples} == {"1", "2"}
    images = [base64.b64decode(sample_cell(i)) for i in range(3)]
    pq.write_table(pa.table({"image": images, "label": [0, 1, 2]}), tmp_path / "t.parquet")
    report = look(tmp_path / "t.parquet")
    assert (report.kind, report.rejects, report.captions.max_tokens) == ("pairs", {}, 0)
    assert report.pictures is not None
    assert report.pictures.num_decoded == 3
    assert look(tmp_path / "t.parquet", first_sequence="label").warnings == {"text_number": 3}
    for flag in ("first_sequence", "idx_column"):
        with pytest.raises(ValueError, match="column 'key': expected once, found 0 times"):
            look(tmp_path / "t.parquet", **{flag: "key"})


@pytest.mark.parametrize("units", [2, None])
def test_a_codes_table_also_unfinished(
    units: int | None, tmp_path: Path, write_pairs, tiny_vqgan: Path
) -> None:
    pairs = write_pairs(tmp_path / "pairs.tsv", 48)
    lines = pairs.read_text().split("\n")
    lines[2], lines[5] = "r2\tx\t!!", lines[4]
    pairs.write_text("\n".join(lines))
    table = make_codes(pairs, tiny_vqgan, tmp_path / "codes", units=units)
    report = look(table, outputs=str(tmp_path / "out"))
    rows = 47 if units is None else 31
    assert (report.kind, report.num_rows, report.rows_read) == ("codes", rows, rows + 1)
    assert report.run is not None
    wanted = {"stage": "precompute", "finished": units is None, "units_done": units or 3}
    wanted |= {"units_left": 3 - (units or 3), "rows_in": rows + 1, "rows_out": rows, "rows_rejected": 1}
    assert wanted.items() <= report.run.items()
    assert report.rejects == {"b64_invalid": 1}
    assert report.codes is not None
    assert (report.codes.num_rows, report.codes.image_len) == (rows, 16)
    assert report.codes.num_repeated >= 1
    assert report.idx.num_repeated == 1
    pictures = [Image.open(p) for p in sorted((tmp_path / "out").iterdir())]
    assert {p.size for p in pictures} == {(16, 16)}
    assert len(pictures) == 8
    text = to_text(report)
    assert ("not finished" in text) == (units is not None)
    assert "b64_invalid 1" in text
    json.dumps(dataclasses.asdict(report))


def test_large_tables_are_sampled_evenly(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("".join(f"{i}\t红{i}\n" for i in range(5000)))
    report = look(tmp_path / "p.tsv", max_rows=1000)
    assert report.num_rows == 5000
    assert 800 <= report.rows_read <= 1200
    assert "evenly spread" in to_text(report)
    seen = [int(sample.idx) for sample in report.samples]
    assert seen[0] < 700
    assert seen[-1] > 4300


def test_captions_are_counted() -> None:
    tokenizer = from_vocab("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "红", "色"]).encode())
    stats = CaptionStats(tokenizer, text_len=3)
    stats.add(["红", "红色", "红色红色", "绿", "红绿", ""])
    found = stats.report()
    assert (found.num_captions, found.max_tokens, found.median_tokens, found.num_all_unk) == (6, 4, 1, 1)
    assert (found.cut_fraction, found.with_unk_fraction) == (1 / 6, 2 / 6)
    assert found.unk_fraction == 2 / 10
    assert CaptionStats(tokenizer, text_len=3).report().num_captions == 0


def test_repeats_are_counted() -> None:
    stats = RepeatStats()
    for key in "abacabz":
        stats.add(key.encode(), key)
    found = stats.report()
    assert (found.num_keys, found.num_repeated, found.examples) == (7, 3, ["a", "b"])


def test_a_crashing_picture_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_pairs) -> None:
    monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "1")
    monkeypatch.setenv("PAINTER_POISON", "1:exit")
    report = look(write_pairs(tmp_path / "t.tsv", 4))
    assert report.pictures is not None
    assert (report.pictures.num_decoded, report.pictures.rejected) == (3, {"worker_crash": 1})


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--tables", "missing.tsv"], 2, "no such file"),
        (["--tables", "t.tsv", "--text-len", "0"], 2, "--text-len: got 0"),
        (["--tables", "t.tsv", "--vocab", "none.txt"], 2, "none.txt: no such file"),
        (["--tables", "model"], 2, "model"),
        (["--tables", "wide.tsv"], 2, "4 columns in the first line"),
        (["--tables", "rows.jsonl"], 2, "rows.jsonl: this is JSON lines"),
        (["--tables", "t.tsv", "--json", "t.tsv"], 4, "--json t.tsv exists and is no report of this job"),
        (["--tables", "t.tsv", "--json", "rows.jsonl"], 4, "rows.jsonl exists and is no report"),
        (["--tables", "t.tsv", "--json", "model"], 4, "model exists and is no report"),
        (["--tables", "strange"], 2, "plan.json: no plan of ours"),
    ],
)
def test_mistakes_end_with_2(
    flags: list[str], code: int, said: str, tmp_path: Path, tiny_vqgan: Path, monkeypatch, caplog, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.tsv").write_text("1\t红\n")
    (tmp_path / "wide.tsv").write_text("1\t红\t2\t3\n")
    (tmp_path / "rows.jsonl").write_text('{"idx": "1", "text": "红"}\n')
    (tmp_path / "model").symlink_to(tiny_vqgan)
    (tmp_path / "strange" / "_run").mkdir(parents=True)
    (tmp_path / "strange" / "_run" / "plan.json").write_text("[]")
    monkeypatch.setattr(sys, "argv", ["inspect_table.py", *flags])
    with pytest.raises(SystemExit) as end:
        inspect_table.main()
    assert end.value.code == code
    assert (tmp_path / "t.tsv").read_text() == "1\t红\n"
    printed = capsys.readouterr()
    assert said in caplog.text + printed.err + printed.out


@pytest.mark.parametrize("encoding", ["gbk", "ascii"])
def test_a_terminal_that_lacks_characters(encoding: str, tmp_path: Path) -> None:
    """What it cannot show is written out; the report is not lost for it."""
    (tmp_path / "t.tsv").write_text("1\t红色的杯子😀\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "jobs/inspect_table.py"), "--tables", str(tmp_path / "t.tsv")]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\\U0001f600" in done.stdout.decode(encoding)
    assert ("红色的杯子" in done.stdout.decode(encoding)) == (encoding == "gbk")


def test_numbers_are_plain(tmp_path: Path, monkeypatch, write_pairs, capsys) -> None:
    """--json is JSON without NaN, and without NumPy's types."""
    table = write_pairs(tmp_path / "t.tsv", 3)
    monkeypatch.setattr(
        sys,
        "argv",
        ["inspect_table.py", "--tables", str(table), "--json", str(tmp_path / "r.json"), "--verify"],
    )
    inspect_table.main()
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["problems"] == []
    assert report["num_rows"] == 3
    assert "3 decoded: PNG 3" in capsys.readouterr().out
    assert np.isfinite(report["captions"]["mean_tokens"])
