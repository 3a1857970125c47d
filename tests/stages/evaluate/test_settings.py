"""A swept table has a score a setting: the one that a table of this setting alone has."""

from pathlib import Path

import pytest

from painter_core.painting.sampling import SamplingConfig
from tests.support.evaluation import judge
from tests.support.painting import CAPTIONS, config_of, paint_table, write_painter, write_prompts

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
