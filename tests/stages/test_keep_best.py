"""generate.py --keep-best: the kept pictures are those of the whole table, and say which they are."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest

from painter_core.easynlp.output import read_cell
from painter_core.model_files.caption_dropout import warn_of_gain
from painter_core.model_files.open import open_model
from painter_core.painting.sampling import SamplingConfig
from tests.support.local_run import code_of, rows_of
from tests.support.painting import CAPTIONS, config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")

N = 3
SAMPLING = SamplingConfig(top_k=20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("best") / "model")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("best") / "prompts.tsv")


@pytest.fixture(scope="module")
def whole(model: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """All N pictures, without scores."""
    return paint(model, prompts, tmp_path_factory.mktemp("best") / "whole")


def paint(model: Path, prompts: Path, outputs: Path, **flags: object) -> pa.Table:
    flags = {"max_generated_num": N, "sampling": SAMPLING} | flags
    return paint_table(config_of(model, prompts, outputs, **flags))


def by_sample(table: pa.Table) -> dict[tuple[str, int], dict]:
    return {(row["idx"], row["sample"]): row for row in table.to_pylist()}


def test_all_kept_are_the_pictures_without_ranking(
    model: Path, prompts: Path, whole: pa.Table, tmp_path: Path
) -> None:
    table = paint(model, prompts, tmp_path / "all", keep_best=N, score_columns=True)
    assert table.column_names == [*whole.column_names, "rank", "score_logp", "score_gain"]
    assert table.select(whole.column_names).equals(whole)
    for i in range(len(CAPTIONS)):
        rows = table.slice(i * N, N).to_pylist()
        by_rank = sorted(rows, key=lambda row: row["rank"])
        assert [row["rank"] for row in by_rank] == list(range(N))
        scores = [row["score_logp"] for row in by_rank]
        assert scores == sorted(scores, reverse=True)
        assert max(scores) > min(scores)
    assert paint(model, prompts, tmp_path / "told", score_columns=True).column_names == [
        *whole.column_names, "score_logp", "score_gain",
    ]  # fmt: skip


@pytest.mark.parametrize("rank_by", [None, "gain", "logp"])
def test_the_kept_picture_is_the_one_without_ranking(
    rank_by: str | None, model: Path, prompts: Path, whole: pa.Table, tmp_path: Path
) -> None:
    table = paint(model, prompts, tmp_path / "two", keep_best=2, rank_by=rank_by)
    name = f"score_{rank_by or 'logp'}"
    assert table.column_names == ["idx", "text", "gen_imgbase64", "sample", "rank", name]
    every, told = by_sample(whole), paint(model, prompts, tmp_path / "told", score_columns=True)
    for i in range(len(CAPTIONS)):
        kept = table.slice(2 * i, 2).to_pylist()
        scores = told.slice(i * N, N).column(name).to_pylist()
        best = sorted(range(N), key=lambda n: -scores[n])[:2]
        assert [row["sample"] for row in kept] == sorted(best)
        for row in kept:
            assert row["gen_imgbase64"] == every[row["idx"], row["sample"]]["gen_imgbase64"]
            assert row[name] == scores[row["sample"]]
            assert best[row["rank"]] == row["sample"]
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert manifest["identity"]["keep_best"] == 2
    assert manifest["identity"]["rank_by"] == (rank_by or "logp")
    assert (manifest["rows_in"], manifest["rows_out"]) == (len(CAPTIONS), len(CAPTIONS))


def test_one_of_one(model: Path, prompts: Path, tmp_path: Path) -> None:
    table = paint(model, prompts, tmp_path / "one", max_generated_num=1, keep_best=1)
    plain = paint(model, prompts, tmp_path / "plain", max_generated_num=1)
    assert table.select(plain.column_names).equals(plain)
    assert table["rank"].to_pylist() == table["sample"].to_pylist() == [0] * len(CAPTIONS)


def test_units_change_nothing(model: Path, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.tsv", 20)
    table = paint(model, prompts, tmp_path / "many", max_generated_num=2, keep_best=1)
    assert len(rows_of(tmp_path / "many")) == 2
    few = paint(
        model, write_prompts(tmp_path / "few.tsv", 5), tmp_path / "few", max_generated_num=2, keep_best=1
    )
    assert table.slice(0, 5).equals(few)


def test_easynlps_list_begins_with_the_best(
    model: Path, prompts: Path, whole: pa.Table, tmp_path: Path
) -> None:
    flags = {"max_generated_num": N, "sampling": SAMPLING}
    told = paint(model, prompts, tmp_path / "told", keep_best=N, score_columns=True)
    made = {
        name: paint_table(
            config_of(model, prompts, tmp_path / f"{name}.tsv", easynlp_format=True, **flags, **more)
        )
        for name, more in (("all", {}), ("best", {"keep_best": 2}))
    }
    for i, (every, best) in enumerate(
        zip(made["all"]["gen_imgbase64"].to_pylist(), made["best"]["gen_imgbase64"].to_pylist(), strict=True)
    ):
        ranks = told.slice(i * N, N)["rank"].to_pylist()
        assert read_cell(best) == [read_cell(every)[ranks.index(rank)] for rank in (0, 1)]


def test_another_choice_is_another_table(model: Path, prompts: Path, tmp_path: Path) -> None:
    paint(model, prompts, tmp_path / "out", keep_best=2)
    before = rows_of(tmp_path / "out")
    paint(model, prompts, tmp_path / "out", keep_best=2)  # complete
    for flags in (
        {"keep_best": 1},
        {"keep_best": 2, "rank_by": "gain"},
        {"keep_best": 2, "score_columns": True},
        {},
    ):
        assert code_of(lambda flags=flags: paint(model, prompts, tmp_path / "out", **flags)) == 4
    assert rows_of(tmp_path / "out") == before


def test_a_model_without_empty_captions_is_warned_of(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    warn_of_gain(open_model(str(model)))
    assert caplog.text == ""
    warn_of_gain(open_model(str(write_painter(tmp_path / "none", caption_dropout=0.0))))
    assert "has never seen an empty caption" in caplog.text
    warn_of_gain(open_model(str(write_painter(tmp_path / "silent", caption_dropout=None))))
    assert "does not say whether it has seen empty captions" in caplog.text
