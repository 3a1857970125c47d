"""Galleries of finished tables: which rows, which pictures beside them, and how little is read."""

import base64
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.runs.run import Run
from painter_core.stages.make_gallery.entries import GalleryConfig, make_gallery
from painter_core.tables.records import seal
from tests.support.codes_table import make_codes
from tests.support.gallery import facts, make_pictures, page_of
from tests.support.jobs import ROWS, sample_cell

DATA = re.compile(r'src="data:image/\w+;base64,([^"]*)"')


@pytest.fixture(scope="module")
def codes(pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codes table of every row of `pairs`."""
    return make_codes(pairs, tiny_vqgan, tmp_path_factory.mktemp("gallery") / "codes")


def test_codes_table_beside_its_originals(codes: Path, pairs: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, tables=str(codes), originals=str(pairs), max_entries=20, random_seed=3)
    assert f"20 of {ROWS} rows shown, sampled with seed 3" in page
    rows = [int(idx.removeprefix("r")) for idx in facts(page, "idx")]
    assert rows == sorted(rows)
    assert rows[-1] > ROWS / 2
    pictures = DATA.findall(page)
    assert pictures[::2] == [sample_cell(row % 40) for row in rows], "each beside its own original"
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures[1::2])


def test_originals_in_gb18030(codes: Path, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_bytes(pairs.read_text(encoding="utf-8").encode("gb18030"))
    page = page_of(tmp_path, tables=str(codes), originals=str(tmp_path / "pairs.tsv"), encoding="gb18030")
    assert page == page_of(tmp_path, tables=str(codes), originals=str(pairs))
    with pytest.raises(ValueError, match="--encoding gb18030"):
        page_of(tmp_path, tables=str(codes), originals=str(tmp_path / "pairs.tsv"))


def test_only_what_is_shown_is_read(codes: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(codes, tmp_path / "codes"))
    whole = page_of(tmp_path, tables=str(copy), max_entries=1)
    (idx,) = facts(whole, "idx")
    parts = sorted(copy.glob("part-*.parquet"))
    needless = [part for part in parts if idx not in pq.read_table(part).column("idx").to_pylist()]
    assert len(needless) == len(parts) - 1 > 0
    for part in needless:
        part.unlink()
    assert page_of(tmp_path, tables=str(copy), max_entries=1) == whole


def test_an_idx_of_several_originals_has_none(codes: Path, pairs: Path, tmp_path: Path) -> None:
    lines = pairs.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "pairs.tsv").write_text("".join([*lines[:30], lines[7]]), encoding="utf-8")
    page = page_of(tmp_path, tables=str(codes), originals=str(tmp_path / "pairs.tsv"))
    assert page.count(">original<") == 29


def test_originals_need_no_captions_and_may_have_no_idx(
    codes: Path, pairs: Path, tiny_vqgan: Path, tmp_path: Path
) -> None:
    cells = [line.split("\t")[2] for line in pairs.read_text(encoding="utf-8").splitlines()[:30]]
    (tmp_path / "no_captions.tsv").write_text("".join(f"r{i}\t\t{c}\n" for i, c in enumerate(cells)))
    page = page_of(tmp_path, tables=str(codes), originals=str(tmp_path / "no_captions.tsv"))
    assert page.count(">original<") == 30
    numbered = {"text": ["红"] * 30, "imgbase64": cells}
    pq.write_table(pa.table(numbered), tmp_path / "numbered.parquet")
    made = make_codes(tmp_path / "numbered.parquet", tiny_vqgan, tmp_path / "codes", idx_column="row")
    flags = {"originals": str(tmp_path / "numbered.parquet"), "idx_column": "row"}
    page = page_of(tmp_path, tables=str(made), **flags)
    assert facts(page, "idx") == [str(i + 1) for i in range(30)]
    assert DATA.findall(page)[::2] == cells


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_entries": 501}, "--max-entries: got 501, expected 1 to 500"),
        ({"scores": "x"}, "--scores goes with an output table"),
        ({"originals": "nowhere.tsv"}, "nowhere.tsv"),
        ({"tables": "nowhere"}, "--tables nowhere: no table of jobs/generate.py .* nowhere does not exist"),
        ({"tables": "pairs.tsv"}, "pairs.tsv.run does not exist. jobs/inspect_table.py shows"),
    ],
)
def test_flags_that_do_not_fit(codes: Path, tmp_path: Path, flags: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        page_of(tmp_path, **({"tables": str(codes)} | flags))


def test_large_tables_are_sampled(tmp_path: Path) -> None:
    table = make_pictures(tmp_path, "pictures", rows=300)
    page = page_of(tmp_path, tables=str(table), max_entries=50, random_seed=3)
    shown = [int(idx.removeprefix("p")) for idx in facts(page, "idx")]
    assert "50 of 300 rows shown, sampled with seed 3" in page
    assert len(set(shown)) == 50
    assert shown == sorted(shown)  # in the order of the table
    assert max(shown) > 150  # not merely its head
    assert page_of(tmp_path, tables=str(table), max_entries=50, random_seed=3) == page
    assert facts(page_of(tmp_path, tables=str(table), max_entries=50, random_seed=4), "idx") != shown


@pytest.mark.parametrize("single_file", [".tsv", ".parquet"])
def test_a_table_in_one_file(single_file: str, pairs: Path, tiny_vqgan: Path, tmp_path: Path) -> None:
    made = make_codes(pairs, tiny_vqgan, tmp_path / f"codes{single_file}")
    page = page_of(tmp_path, tables=str(made), originals=str(pairs), max_entries=7)
    assert page.count(">original<") == page.count(">reconstruction<") == 7
    pictures = make_pictures(tmp_path, f"pictures{single_file}", rows=5, samples=2)
    page = page_of(tmp_path, tables=str(pictures))
    assert facts(page, "idx") == [f"p{i}" for i in range(5) for _ in range(2)]
    assert facts(page, "sample") == ["0", "1"] * 5


def test_easynlps_rows_of_many_pictures_are_bounded(tmp_path: Path) -> None:
    table = make_pictures(tmp_path, "pictures.tsv", rows=300, samples=16, easynlp=True)
    page = page_of(tmp_path, tables=str(table))
    assert len(facts(page, "idx")) == 1000 // 16
    assert len(DATA.findall(page)) == 62 * 16
    assert "62 of 300 rows shown, sampled with seed 0; 992 pictures, of at most 1,000 a page" in page
    assert len(page) < 45e6
    few = page_of(tmp_path, tables=str(table), max_entries=3)
    assert len(DATA.findall(few)) == 3 * 16


def test_one_row_of_more_pictures_than_a_page_takes(tmp_path: Path) -> None:
    table = make_pictures(tmp_path, "pictures.tsv", rows=2, samples=1003, easynlp=True)
    page = page_of(tmp_path, tables=str(table))
    assert len(DATA.findall(page)) == 1000
    assert facts(page, "pictures") == ["1,000 of 1,003"]
    assert "1 of 2 rows shown" in page


@pytest.mark.parametrize(
    ("columns", "missing"),
    [("text,gen_imgbase64", "idx"), ("gen_imgbase64", "idx, text"), ("idx,text", "gen_imgbase64")],
)
def test_a_table_without_a_column_that_is_shown(columns: str, missing: str, tmp_path: Path) -> None:
    table = make_pictures(tmp_path, "pictures", rows=3, columns=columns)
    message = (
        f"pictures: without the column {missing}; it has {columns.replace(',', ', ')}. .*--output-schema idx,"
    )
    with pytest.raises(ValueError, match=message):
        page_of(tmp_path, tables=str(table))


def test_a_table_of_another_kind(tmp_path: Path) -> None:
    manifest = {"parts": [], "table": "scores", "fingerprint": "0" * 64, "identity": {}}
    for name, kind, message in (
        ("scores", "scores", "a table of scores, expected outputs or codes: .* it with --scores"),
        ("test", "test", "a table of test, expected outputs or codes"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps(seal(manifest | {"table": kind})))
        with pytest.raises(ValueError, match=message):
            page_of(tmp_path, tables=str(tmp_path / name))
    pictures = make_pictures(tmp_path, "pictures", rows=1)
    with pytest.raises(ValueError, match=r"--scores .*pictures: a table of outputs, expected scores"):
        page_of(tmp_path, tables=str(pictures), scores=str(pictures))


def test_the_job_ends_with_2_for_what_it_cannot_show(tmp_path: Path) -> None:
    table = make_pictures(tmp_path, "pictures", rows=1, columns="gen_imgbase64")
    config = GalleryConfig(tables=str(table), outputs=str(tmp_path / "page.html"))
    with pytest.raises(SystemExit) as end, Run(config.paths()) as run:
        make_gallery(config, run)
    assert end.value.code == 2
    assert not (tmp_path / "page.html").exists()
