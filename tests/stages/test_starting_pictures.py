"""generate.py --init-image: each row's own picture is painted on; broken ones are set aside."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.flags import PromptFlags
from painter_core.tables.manifest import iter_parts
from tests.support.codes_table import make_codes
from tests.support.jobs import sample_cell
from tests.support.local_run import code_of
from tests.support.painting import CAPTIONS, SMALL_VQGAN, config_of, paint_table, write_painter

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEMA = "idx,text,photo"
GRID = SMALL_VQGAN.grid_size
BROKEN = {1: "AAAA", 3: ""}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("start") / "model")


def write_rows(path: Path, broken: dict[int, str]) -> Path:
    """A TSV of captions and pictures."""
    lines = (f"p{i}\t{text}\t{broken.get(i, sample_cell(i))}\n" for i, text in enumerate(CAPTIONS))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def paint(model: Path, tables: Path, outputs: Path, **flags: object) -> pa.Table:
    flags = {"init_image": "photo", "codes_column": True, "sampling": SamplingConfig(top_k=20)} | flags
    config = config_of(model, tables, outputs, **flags)
    return paint_table(dataclasses.replace(config, input=PromptFlags(input_schema=SCHEMA)))


def codes_of(table: pa.Table) -> np.ndarray:
    return np.array(table["codes"].to_pylist())


def test_kept_codes_come_out_unchanged(model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.tsv", {})
    encoded = codes_of(pa.concat_tables(iter_parts(str(make_codes(rows, model, tmp_path / "codes")))))
    alone = {"output_schema": "idx,text"}
    whole = codes_of(paint(model, rows, tmp_path / "plain", init_image=None, **alone))
    for share, kept in ((None, 2), (0.25, 1), (0.7, 3)):
        table = paint(model, rows, tmp_path / f"out{kept}", init_share=share, max_generated_num=2, **alone)
        codes = codes_of(table)
        first = kept * GRID
        np.testing.assert_array_equal(codes[:, :first], np.repeat(encoded, 2, axis=0)[:, :first])
        assert (codes[:, first:] != np.repeat(encoded, 2, axis=0)[:, first:]).any(axis=1).all(), "painted"
        assert (codes[::2, first:] != codes[1::2, first:]).any(axis=1).all(), "samples differ"
        assert (codes[::2] != whole).any(axis=1).all()
        identity = json.loads((tmp_path / f"out{kept}" / "manifest.json").read_text())["identity"]
        assert identity["start"] == {"rows": kept, "resize": "bilinear", "alpha": "white"}


def test_broken_pictures_are_rejects(model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.tsv", BROKEN)
    table = paint(model, rows, tmp_path / "out", score_columns=True)
    assert table["idx"].to_pylist() == ["p0", "p2", "p4"]
    rejects = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert [(r["stage"], r["row"], r["column"], r["reason"]) for r in rejects] == [
        ("generate", 2, "photo", "img_unidentified"),
        ("generate", 4, "photo", "img_empty"),
    ]
    good = paint(model, write_rows(tmp_path / "good.tsv", {}), tmp_path / "good", score_columns=True)
    assert table.equals(good.take([0, 2, 4])), "the others are painted as without them"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["rows_in"], manifest["rows_out"], manifest["rows_rejected"]) == (5, 3, 2)


def test_another_share_is_another_table(model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.tsv", {})
    paint(model, rows, tmp_path / "out", output_schema="idx,text")
    for flags in ({"init_share": 0.25}, {"init_image": None}):
        again = {"output_schema": "idx,text"} | flags
        assert code_of(lambda again=again: paint(model, rows, tmp_path / "out", **again)) == 4
    assert code_of(lambda: paint(model, rows, tmp_path / "none", init_share=0.01)) == 2
