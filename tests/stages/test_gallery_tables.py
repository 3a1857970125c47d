"""Galleries of finished tables: which rows, which pictures beside them, and how little is read."""

import base64
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.codes_table import make_codes
from tests.support.gallery import facts, page_of
from tests.support.jobs import ROWS, sample_cell

DATA = re.compile(r'src="data:image/\w+;base64,([^"]*)"')


@pytest.fixture(scope="module")
def codes(pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codes table of every row of `pairs`."""
    return make_codes(pairs, tiny_vqgan, tmp_path_factory.mktemp("gallery") / "codes")


def test_codes_table_beside_its_originals(codes: Path, pairs: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, tables=str(codes), originals=str(pairs), max_entries=20, random_seed=3)
    assert f"20 of {ROWS} shown, sampled with seed 3" in page
    rows = [int(idx.removeprefix("r")) for idx in facts(page, "idx")]
    assert rows == sorted(rows)
    assert rows[-1] > ROWS / 2
    pictures = DATA.findall(page)
    assert pictures[::2] == [sample_cell(row % 40) for row in rows], "each beside its own original"
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures[1::2])


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
    ],
)
def test_flags_that_do_not_fit(codes: Path, tmp_path: Path, flags: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        page_of(tmp_path, tables=str(codes), **flags)
