"""Tables of every kind, several side by side, and what is said of rows and pictures that do not fit."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.runs.flags import PairFlags, TableFlags
from painter_core.sample.captions import VALUES
from painter_core.sample.pictures import sample_row
from painter_core.stages.evaluate.config import EvaluateConfig
from painter_core.stages.evaluate.sources import table_names
from tests.support.codes_table import make_codes
from tests.support.evaluation import caption, cell, judge, write_pictures
from tests.support.jobs import sample_cell
from tests.support.judges import picture
from tests.support.local_run import faults, killed


@pytest.mark.long
def test_attributes_keep_their_score(tmp_path: Path) -> None:
    """Our table, EasyNLP's list cells, and a row that is rejected: keys as they always were."""
    captions = [sample_row(5, i, split="train").text for i in range(4)]
    lines = [
        f"a\t{captions[0]}\t{sample_cell(0)}",
        f"b\t{captions[1]}\t['{sample_cell(1)}', '{sample_cell(3)}']",
        f"c\t没有的东西\t{sample_cell(2)}",
    ]
    (tmp_path / "p.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    score = judge(tmp_path / "p.tsv", tmp_path / "o", attributes=True, max_reject_fraction=0.5)
    assert score["num_pictures"] == 3
    assert list(score["attributes"]) == list(VALUES)
    assert 0.6 < score["single"] < 1
    assert score["all_right"] == pytest.approx(2 / 3)
    (table,) = score["tables"]
    assert table["rows"]["rejected"] == {"text_unscored": 1}
    assert (table["rows"]["rows_in"], table["rows"]["pictures"]) == (3, 3)
    text = (tmp_path / "o" / "score.md").read_text()
    assert "rejected of p: 1 of 3 rows: 1 text_unscored" in text
    page = (tmp_path / "o" / "report.html").read_text()
    assert captions[1] in page
    rows = pq.read_table(tmp_path / "o" / "scores.parquet").to_pylist()
    assert [(row["idx"], row["row"], row["sample"]) for row in rows] == [
        ("a", 1, 0),
        ("b", 2, 0),
        ("b", 2, 1),
    ]
    assert rows[0]["attributes_right"] == 5


def test_tables_stand_side_by_side(clip: Path, tmp_path: Path) -> None:
    """Each has the score that it has alone; a score never stands beside rows that it is not of."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_pictures(tmp_path / "a" / "pictures.tsv", range(6))
    write_pictures(tmp_path / "b" / "pictures.parquet", range(3, 12))
    both = f"{tmp_path / 'a' / 'pictures.tsv'},{tmp_path / 'b' / 'pictures.parquet'}"
    score = judge(both, tmp_path / "o", metrics="clip", clip=str(clip))
    assert [t["name"] for t in score["tables"]] == ["a-pictures", "b-pictures"]
    assert [t["rows"]["pictures"] for t in score["tables"]] == [6, 9]
    assert "num_pictures" not in score
    alone = judge(tmp_path / "a" / "pictures.tsv", tmp_path / "alone", metrics="clip", clip=str(clip))
    assert alone["tables"][0]["clip"] == score["tables"][0]["clip"]
    assert (tmp_path / "o" / "a-pictures" / "manifest.json").exists()
    page = (tmp_path / "o" / "report.html").read_text()
    assert page.count("Best by CLIP") == 2
    assert len(pq.read_table(tmp_path / "o" / "scores.parquet")) == 15
    again = {"metrics": "clip", "clip": str(clip), "overwrite": True, "limit": 5}
    dies = faults(tmp_path / "faults", "unit_counted:kill:2")
    assert killed(lambda: judge(both, tmp_path / "o", **again), dies), "in the second table"
    assert not (tmp_path / "o" / "score.json").exists()
    assert judge(both, tmp_path / "o", **again)["tables"][0]["rows"]["pictures"] == 5
    (tmp_path / "o" / "mine.txt").write_text("")
    with pytest.raises(SystemExit, match="4"):
        judge(both, tmp_path / "o", metrics="clip", clip=str(clip))


def test_names_tell_tables_apart() -> None:
    assert table_names(["x/score.tsv", "y/z.parquet"]) == ["score", "z"]
    assert table_names(["runs/1/p.tsv", "runs/2/p.tsv.gz"]) == ["1-p", "2-p"]
    assert table_names(["s3://a/reference", "b"]) == ["a-reference", "b"]
    with pytest.raises(ValueError, match="cannot be told apart"):
        table_names(["a/p.tsv", "a/p.tsv"])


def test_constant_pictures_have_stated_values(inception: Path, clip: Path, tmp_path: Path) -> None:
    rows = [{"idx": str(i), "text": "红色", "gen_imgbase64": cell(picture(3))} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    path = tmp_path / "p.parquet"
    (table,) = judge(
        path, tmp_path / "o", metrics="fid,kid,is,clip", reference=str(path), inception=str(inception),
        reference_sequence="gen_imgbase64", clip=str(clip), micro_batch_size=3,
    )["tables"]  # fmt: skip
    assert (table["fid"][0]["value"], table["kid"]["mean"]) == (0.0, 0.0)
    assert table["inception_score"]["mean"] == pytest.approx(1.0)
    assert (table["clip"]["shuffled"], table["clip"]["among"]) == (None, 1)
    assert "all rows have one caption" in table["why"]["shuffled captions"]


def test_rows_that_are_rejected_are_counted_on_both_sides(inception: Path, tmp_path: Path) -> None:
    good, bad = cell(picture(1)), "aGVsbG8="
    for name, cells in (("p", [good, bad, good]), ("r", [good, good, bad, bad])):
        lines = [f"{i}\t{caption(i)}\t{one}" for i, one in enumerate(cells)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    score = judge(
        tmp_path / "p.tsv", tmp_path / "o", metrics="fid", reference=str(tmp_path / "r.tsv"),
        inception=str(inception), micro_batch_size=2, max_reject_fraction=0.5,
    )  # fmt: skip
    assert score["tables"][0]["rows"]["rows_rejected"] == 1
    assert score["reference"]["rows"]["rows_rejected"] == 2
    assert score["reference"]["n"] == 2
    text = (tmp_path / "o" / "score.md").read_text()
    assert "rejected of the reference: 2 of 4 rows" in text


@pytest.mark.parametrize(
    ("content", "flags", "code", "message"),
    [
        ("0\t红\t{cell}\tx\n", {}, 3, "4 columns, expected 3"),
        ("", {}, 2, "the file is empty"),
        ("0\t红\taGVsbG8=\n", {}, 3, "img_unidentified"),
        ("0\t红\taGVsbG8=\n", {"max_reject_fraction": 1.0}, 3, "all of 1 rows were rejected"),
        ("0\t红\t{cell}\n", {"input": PairFlags(input_schema="idx,text,x", second_sequence="y")}, 2, "y"),
    ],
)
def test_a_table_that_cannot_be_measured(
    content: str, flags: dict, code: int, message: str, clip: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "p.tsv").write_text(content.format(cell=cell(picture(0))), encoding="utf-8")
    with pytest.raises(SystemExit, match=str(code)):
        judge(tmp_path / "p.tsv", tmp_path / "o", metrics="clip", clip=str(clip), **flags)
    assert message in caplog.text
    assert "Traceback" not in caplog.text
    assert not (tmp_path / "o" / "score.json").exists()


def test_codes_have_only_a_likelihood(
    write_pairs, model: Path, clip: Path, tiny_vqgan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codes = make_codes(write_pairs(tmp_path / "pairs.tsv", 4), tiny_vqgan, tmp_path / "codes")
    with pytest.raises(SystemExit, match="2"):
        judge(codes, tmp_path / "o", metrics="clip", clip=str(clip))
    assert "a codes table, without pictures" in caplog.text
    manifest = tmp_path / "scores"
    write_pictures(tmp_path / "p.tsv", range(3))
    judge(tmp_path / "p.tsv", manifest, metrics="clip", clip=str(clip))
    caplog.clear()
    with pytest.raises(SystemExit, match="2"):
        judge(manifest, tmp_path / "o", metrics="clip", clip=str(clip))
    assert "a table of scores, which holds no pictures" in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "give --attributes, --metrics, --reconstruction or --stats-only: got none"),
        ({"metrics": "fid", "reconstruction": True}, "got --reconstruction and --attributes or --metrics"),
        ({"metrics": "fid,fvd"}, "unknown .*fvd.*; known are fid, kid, is, clip, likelihood"),
        ({"metrics": "clip,clip", "clip": "c"}, "one stands twice"),
        ({"metrics": "fid", "inception": "i"}, "--reference: not given, but --metrics fid needs it"),
        ({"metrics": "kid", "reference": "r"}, "--inception: not given, but --metrics kid needs it"),
        ({"metrics": "clip"}, "--clip: not given"),
        ({"metrics": "likelihood"}, "--checkpoint-dir: not given"),
        ({"stats_only": True}, "--inception: not given, but --stats-only needs it"),
        ({"attributes": True, "inception": "i"}, "--inception i: given, but --attributes has no use for it"),
        (
            {"metrics": "is", "inception": "i", "reference": "r"},
            "--reference r: given, but --metrics is has no",
        ),
        ({"attributes": True, "micro_batch_size": 4}, "--micro-batch-size 4: given, but --attributes"),
        ({"metrics": "clip", "clip": "c", "resize": "clean"}, "--resize clean: given"),
        ({"metrics": "is", "inception": "i", "fid_blur": "0,2"}, "--fid-blur 0,2: given"),
        ({"stats_only": True, "inception": "i", "fid_blur": "0,x"}, "--fid-blur: got '0,x', expected whole"),
        ({"stats_only": True, "inception": "i", "fid_blur": "1,1"}, "one stands twice"),
        ({"stats_only": True, "inception": "i", "fid_blur": "99"}, "--fid-blur"),
    ],
)
def test_flags_that_do_not_go_together(flags: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(table=TableFlags(tables="t", outputs="o"), **flags)


def test_a_score_is_a_directory() -> None:
    with pytest.raises(ValueError, match="a score is a directory"):
        EvaluateConfig(table=TableFlags(tables="t", outputs="o.tsv"), attributes=True)


def test_what_is_given_must_be_what_it_is_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictures(tmp_path / "p.tsv", range(2))
    (tmp_path / "page.pth").write_text("<html>404</html>")
    for flags, message in (
        ({"metrics": "is", "inception": str(tmp_path / "page.pth")}, "page.pth: a web page"),
        ({"metrics": "is", "inception": str(tmp_path / "gone.pth")}, "gone.pth: no such file"),
        ({"metrics": "clip", "clip": str(tmp_path)}, "no directory of a Chinese CLIP"),
        ({"metrics": "likelihood", "checkpoint_dir": "bundled"}, "needs a GPT and a VQGAN"),
        ({"reconstruction": True, "perceptual_weights": "gone.pth"}, "gone.pth"),
    ):
        caplog.clear()
        with pytest.raises(SystemExit, match="2"):
            judge(tmp_path / "p.tsv", tmp_path / "o", **flags)  # type: ignore[arg-type]
        assert message in caplog.text
    assert not (tmp_path / "o").exists()


def test_an_unfinished_score_is_made_whole(clip: Path, tmp_path: Path) -> None:
    """The files of the score are made anew of the rows, if they are gone."""
    write_pictures(tmp_path / "p.tsv", range(3))
    first = judge(tmp_path / "p.tsv", tmp_path / "o", metrics="clip", clip=str(clip))
    for name in ("score.json", "score.md", "report.html", "scores.parquet"):
        os.remove(tmp_path / "o" / name)
    assert judge(tmp_path / "p.tsv", tmp_path / "o", metrics="clip", clip=str(clip)) == first
    assert json.loads((tmp_path / "o" / "score.json").read_text()) == first
    with pytest.raises(SystemExit, match="4"):
        judge(tmp_path / "p.tsv", tmp_path / "o", attributes=True)
    other = judge(tmp_path / "p.tsv", tmp_path / "o", metrics="clip", clip=str(clip), overwrite=True, limit=2)
    assert other["tables"][0]["rows"]["pictures"] == 2
