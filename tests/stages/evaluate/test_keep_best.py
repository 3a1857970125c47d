"""evaluate.py --keep-best: of each idx the best pictures, as a table that other jobs take."""

import dataclasses
import json
import shutil
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.flags import TableFlags
from painter_core.runs.run import Run
from painter_core.stages.evaluate.config import EvaluateConfig
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.run import inspect_table
from painter_core.tables.manifest import iter_parts
from tests.support.captioning import write_captioner
from tests.support.evaluation import OUTPUTS, judge, write_pictures
from tests.support.gallery import facts, page_of
from tests.support.local_run import code_of, faults, killed, rows_of
from tests.support.painting import config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

N, PROMPTS, FEW = 3, 18, 6
SAMPLING = SamplingConfig(top_k=20)


def paint(model: Path, folder: Path, name: str, prompts: int = FEW, **flags: object) -> Path:
    table = write_prompts(folder / "prompts.tsv", prompts)
    given = {"max_generated_num": N, "sampling": SAMPLING, "image_format": "webp"} | flags
    paint_table(config_of(model, table, folder / name, **given))
    return folder / name


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("best")
    model = write_painter(folder / "model")
    return paint(model, folder, "pictures", PROMPTS, codes_column=True, score_columns=True)


def whole(table: Path) -> pa.Table:
    return pa.concat_tables(iter_parts(str(table)))


def expected(rows: list[dict], scores: list[dict], number: str, keep: int, sign: int = 1) -> list[dict]:
    """What is kept, by sorting the rows of each idx."""
    groups = defaultdict(list)
    for row, score in zip(rows, scores, strict=True):
        assert row["idx"] == score["idx"]
        groups[row["idx"]].append((-sign * score[number], row["sample"]))
    ranks = {(idx, sample): r for idx, found in groups.items() for r, (_, sample) in enumerate(sorted(found))}
    made = [row | {"rank": ranks[row["idx"], row["sample"]]} for row in rows]
    return [row for row in made if row["rank"] < keep]


def verify(table: Path) -> None:
    with Run({}) as run:
        inspect_table(InspectConfig(tables=str(table), verify=True, max_rows=0), run)


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_best_of_each_idx_are_kept(keep: int, painted: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    judge(painted, out, metrics="clip", clip=str(clip), keep_best=keep)
    units = json.loads((out / "_run" / "plan.json").read_text())["units"]
    assert any(unit[6] % N for unit in units), "a unit ends within an idx"
    rows, scores = whole(painted), pq.read_table(out / "scores.parquet").to_pylist()
    table = whole(out / "best")
    assert table.schema.names == [*rows.schema.names, "rank"]
    assert table.drop(["rank"]).schema.types == rows.schema.types
    assert table.to_pylist() == expected(rows.to_pylist(), scores, "clip_score", keep)
    assert len(table) == PROMPTS * min(keep, N)
    assert len({score["sample"] for score in table.to_pylist()}) == N, "not only the first"
    verify(out)
    verify(out / "best")
    if keep == 2:
        ranks = facts(page_of(tmp_path, tables=str(out / "best")), "rank")
        assert ranks == [str(rank) for rank in table["rank"].to_pylist()]
        again = judge(out / "best", tmp_path / "again", metrics="clip", clip=str(clip), keep_best=1)
        assert again["tables"][0]["rows"]["pictures"] == 2 * PROMPTS
        alone = whole(tmp_path / "again" / "best")
        assert alone.schema.names == table.schema.names, "the rank is the new one"
        assert alone.to_pylist() == [row for row in table.to_pylist() if row["rank"] == 0]


@pytest.mark.parametrize("name", ["swept", "swept.tsv"])
def test_the_best_of_all_settings(name: str, clip: Path, tmp_path: Path) -> None:
    model, sweep = write_painter(tmp_path / "model"), "temperature=0.7,1"
    table = paint(model, tmp_path, name, sweep=sweep, max_generated_num=1, keep_best=1)
    judge(table, tmp_path / "o", metrics="clip", clip=str(clip), keep_best=1)
    scores = pq.read_table(tmp_path / "o" / "scores.parquet").to_pylist()
    found = {(s["idx"], s["table"].endswith("0.7")): s["clip_score"] for s in scores}
    rows = whole(tmp_path / "o" / "best").to_pylist()
    assert [row["idx"] for row in rows] == [f"p{i}" for i in range(FEW)]
    for row in rows:
        warm, cold = (found[row["idx"], is_cold] for is_cold in (False, True))
        assert row["temperature"] == (0.7 if cold >= warm else 1.0)
    assert len({row["temperature"] for row in rows}) == 2
    page_of(tmp_path, tables=str(tmp_path / "o" / "best"))


def test_a_killed_run_goes_on(painted: Path, clip: Path, tmp_path: Path) -> None:
    flags = {"metrics": "clip", "clip": str(clip), "keep_best": 2}
    judge(painted, tmp_path / "whole", **flags)
    parts = len(list((tmp_path / "whole").glob("part-*")))
    dies = faults(tmp_path / "faults", f"part_written:kill:{parts + 2}")
    assert killed(lambda: judge(painted, tmp_path / "o", **flags), dies)
    assert not (tmp_path / "o" / "best" / "manifest.json").exists()
    assert len(list((tmp_path / "o" / "best").glob("part-*"))) > 0
    judge(painted, tmp_path / "o", **flags)
    assert rows_of(tmp_path / "o" / "best") == rows_of(tmp_path / "whole" / "best")


def test_another_choice_is_another_table(painted: Path, clip: Path, tmp_path: Path) -> None:
    out, flags = tmp_path / "o", {"metrics": "clip", "clip": str(clip)}
    first = judge(painted, out, **flags)
    assert judge(painted, out, keep_best=2, **flags) == first, "of a finished score"
    before = rows_of(out)
    assert code_of(lambda: judge(painted, out, keep_best=1, **flags)) == 4
    assert code_of(lambda: judge(painted, out, keep_best=1, dry_run=True, **flags)) == 4
    assert rows_of(out) == before
    judge(painted, out, keep_best=1, overwrite=True, **flags)
    assert len(whole(out / "best")) == PROMPTS
    judge(painted, out, overwrite=True, limit=N * 2, **flags)
    assert not (out / "best").exists(), "of other scores"
    judge(painted, tmp_path / "dry", keep_best=1, dry_run=True, **flags)
    assert not (tmp_path / "dry").exists()


def test_rejected_pictures_are_not_among_them(
    painted: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PAINTER_ENABLE_FAULTS", "1")
        patch.setenv("PAINTER_POISON", "2:reject,4:reject,5:reject,6:reject")  # rows of each file
        flags = {"clip": str(clip), "keep_best": 3, "max_reject_fraction": 0.5}
        score = judge(painted, tmp_path / "o", metrics="clip", **flags)
    files = len(list(painted.glob("part-*")))
    assert score["tables"][0]["rows"]["rejected"] == {"img_truncated": 4 * files}
    table = whole(tmp_path / "o" / "best")
    assert len(table) == N * PROMPTS - 4 * files
    first = [(row["idx"], row["sample"], row["rank"]) for row in table.slice(0, 3).to_pylist()]
    assert [sample for _, sample, _ in first] == [0, 2, 0], "the second of p0, and all of p1, are rejects"
    assert {idx for idx, *_ in first} == {"p0", "p2"}
    assert sorted(rank for idx, _, rank in first if idx == "p0") == [0, 1]


def test_of_equal_scores_the_lower_sample_is_better(clip: Path, tmp_path: Path) -> None:
    greedy = paint(write_painter(tmp_path / "model"), tmp_path, "greedy", sampling=SamplingConfig(top_k=1))
    judge(greedy, tmp_path / "o", metrics="clip", clip=str(clip), keep_best=2)
    rows = whole(tmp_path / "o" / "best").to_pylist()
    assert [(row["sample"], row["rank"]) for row in rows] == [(0, 0), (1, 1)] * FEW


def test_each_of_several_tables_has_its_own(painted: Path, clip: Path, tmp_path: Path) -> None:
    shutil.copytree(painted, tmp_path / "copy")
    flags = {"metrics": "clip", "clip": str(clip), "keep_best": 1}
    for _ in range(2):
        judge(f"{painted},{tmp_path / 'copy'}", tmp_path / "o", **flags)
    found = [whole(tmp_path / "o" / name / "best") for name in ("pictures", "copy")]
    assert found[0].equals(found[1])
    assert len(found[0]) == PROMPTS


def test_codes_by_caption_then_decoded(tmp_path: Path) -> None:
    """Codes are drawn, the best by caption are chosen, and only these are decoded."""
    model = write_captioner(tmp_path / "model")
    codes = paint(model, tmp_path, "codes", codes_column=True, output_schema="idx,text", image_format="png")
    out = tmp_path / "o"
    judge(codes, out, metrics="caption", checkpoint_dir=str(model), keep_best=1)
    scores = pq.read_table(out / "scores.parquet").to_pylist()
    rows = expected(whole(codes).to_pylist(), scores, "caption_nats", 1, sign=-1)
    assert whole(out / "best").to_pylist() == rows
    verify(out / "best")
    decoded = paint_table(config_of(model, out / "best", tmp_path / "decoded", init_codes="codes"))
    paint(model, tmp_path, "pictures", image_format="png")
    pictures = {(r["idx"], r["sample"]): r["gen_imgbase64"] for r in whole(tmp_path / "pictures").to_pylist()}
    chosen = [pictures[row["idx"], row["sample"]] for row in rows]
    assert decoded["gen_imgbase64"].to_pylist() == chosen


def test_tables_without_a_choice(clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, flags = write_painter(tmp_path / "model"), {"metrics": "clip", "clip": str(clip), "keep_best": 1}
    lists = paint(model, tmp_path, "lists.tsv", easynlp_format=True, image_format="png")
    other = write_pictures(tmp_path / "other.parquet", range(3))
    for table, input_flags, message in (
        (lists, {}, "lists.tsv: --easynlp-format, several pictures a cell"),
        (other, {}, "other.parquet: no table of jobs/generate.py"),
        (lists, {"idx_column": "row"}, "read by row numbers"),
    ):
        caplog.clear()
        given = dataclasses.replace(OUTPUTS, **input_flags)
        assert code_of(lambda t=table, given=given: judge(t, tmp_path / "o", input=given, **flags)) == 2
        assert message in caplog.text
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"metrics": "clip", "clip": "c", "keep_best": 0}, "--keep-best: got 0, expected 1 to 4096"),
        (
            {"metrics": "is", "inception": "i", "keep_best": 1},
            "--keep-best 1: chooses by one .*got --metrics is",
        ),
        (
            {"metrics": "clip,caption", "clip": "c", "checkpoint_dir": "m", "keep_best": 1},
            "got clip and caption",
        ),
        ({"metrics": "likelihood", "checkpoint_dir": "m", "keep_best": 1}, "got likelihood"),
        ({"attributes": True, "keep_best": 1}, "got --attributes"),
    ],
)
def test_one_score_is_chosen_by(flags: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(table=TableFlags(tables="t", outputs="o"), **flags)
