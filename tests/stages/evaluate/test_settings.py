"""A swept table has a score a setting: the one that a table of this setting alone has."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.flags import TableFlags
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.upscaling.flags import UpscaleFlags
from tests.support.evaluation import judge
from tests.support.painting import CAPTIONS, config_of, paint_table, write_painter, write_prompts
from tests.support.upscaling import enlarge_table

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["swept", "swept.tsv"])
def test_each_setting_is_scored_as_a_table_of_its_own(clip: Path, tmp_path: Path, kind: str) -> None:
    model = write_painter(tmp_path / "model")
    prompts = write_prompts(tmp_path / "prompts.tsv")
    flags = {"max_generated_num": 2}
    sweep = "guidance-scale=1,3;temperature=0.7"
    base = SamplingConfig(top_k=20, temperature=0.7)
    paint_table(config_of(model, prompts, tmp_path / kind, sampling=base, sweep=sweep, **flags))
    score = judge(tmp_path / kind, tmp_path / "scores", metrics="clip", clip=str(clip))
    assert [table["name"] for table in score["tables"]] == [f"swept: guidance scale {g}" for g in (1, 3)]
    assert [table["rows"]["pictures"] for table in score["tables"]] == [2 * len(CAPTIONS)] * 2
    for table, guidance_scale in zip(score["tables"], (1.0, 3.0), strict=True):
        alone = SamplingConfig(top_k=20, temperature=0.7, guidance_scale=guidance_scale)
        outputs = tmp_path / f"g{guidance_scale}"
        paint_table(config_of(model, prompts, outputs, sampling=alone, **flags))
        (own,) = judge(outputs, tmp_path / f"s{guidance_scale}", metrics="clip", clip=str(clip))["tables"]
        assert table["clip"] == own["clip"]


@pytest.mark.parametrize(("painted", "larger"), [("swept", "larger.tsv"), ("swept.tsv", "larger")])
def test_pictures_that_were_enlarged_have_their_settings(
    painted: str, larger: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where some were set aside, so that a caption has fewer rows than there are settings."""
    model, prompts = write_painter(tmp_path / "model"), write_prompts(tmp_path / "prompts.tsv", 18)
    paint_table(config_of(model, prompts, tmp_path / painted, sweep="temperature=0.2,2"))
    table = TableFlags(
        tables=str(tmp_path / painted), outputs=str(tmp_path / larger), max_reject_fraction=0.5
    )
    with monkeypatch.context() as patch:
        patch.setenv("PAINTER_ENABLE_FAULTS", "1")
        patch.setenv("PAINTER_POISON", "2:reject,3:reject,5:reject")  # rows of each part
        enlarge_table(UpscaleConfig(table=table, upscaling=UpscaleFlags(upscale=2)))
    flags = {"metrics": "clip", "clip": str(clip)}
    before, after = (
        scores_of(tmp_path / name, tmp_path / f"scores-{name[:6]}", flags) for name in (painted, larger)
    )
    names = [name for _, name in after]
    # of parts of 32 and 4 rows; the odd ones are of the first setting
    assert (names.count("larger: temperature 0.2"), names.count("larger: temperature 2")) == (15, 16)
    for (idx, name), score in after.items():
        assert score == pytest.approx(before[idx, name.replace("larger", "swept")], abs=0.02)
    few = judge(tmp_path / larger, tmp_path / "few", limit=1, **flags)
    assert [t["name"] for t in few["tables"]] == ["larger: temperature 0.2"]


def scores_of(table: Path, outputs: Path, flags: dict) -> dict[tuple[str, str], float]:
    """The score of each picture, by its idx and the name of its setting."""
    judge(table, outputs, **flags)
    rows = pq.read_table(outputs / "scores.parquet").to_pylist()
    return {(row["idx"], row["table"]): row["clip_score"] for row in rows}
