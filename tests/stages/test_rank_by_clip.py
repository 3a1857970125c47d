"""generate.py --rank-by clip: pictures are kept by the score that evaluate.py --metrics clip gives them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.painting.scores import ChoiceConfig
from tests.support.evaluation import judge
from tests.support.judges import write_clip
from tests.support.local_run import code_of
from tests.support.painting import config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")

N = 3


def paint(directory: Path, outputs: str, **flags: object) -> pa.Table:
    if not (directory / "model").exists():
        write_painter(directory / "model")
    prompts = write_prompts(directory / "prompts.tsv")
    return paint_table(
        config_of(directory / "model", prompts, directory / outputs, max_generated_num=N, **flags)
    )


def test_the_nearest_picture_is_kept(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip")
    flags = {"rank_by": "clip", "clip": str(clip)}
    plain = paint(tmp_path, "plain")
    ranked = paint(tmp_path, "ranked", keep_best=N, **flags)
    assert ranked.column_names == ["idx", "text", "gen_imgbase64", "sample", "rank", "score_clip"]
    assert ranked["gen_imgbase64"].equals(plain["gen_imgbase64"])
    judge(tmp_path / "ranked", tmp_path / "scores", metrics="clip", clip=str(clip))
    scores = pq.read_table(tmp_path / "scores" / "scores.parquet")["clip_score"].to_numpy()
    found = np.array(ranked["score_clip"].to_pylist())
    np.testing.assert_allclose(found, scores, atol=1e-6)
    order = np.argsort(np.argsort(-found.reshape(-1, N), axis=1, kind="stable"), axis=1)
    assert ranked["rank"].to_pylist() == order.ravel().tolist()
    best = paint(tmp_path, "best", keep_best=1, **flags)
    first = ranked.filter(pa.compute.equal(ranked["rank"], 0))
    assert best.equals(first.select(best.column_names))
    assert len(set(best["sample"].to_pylist())) > 1
    codes = paint(tmp_path, "codes", keep_best=1, codes_column=True, output_schema="idx,text", **flags)
    assert codes["sample"].equals(best["sample"])
    identity = json.loads((tmp_path / "best" / "manifest.json").read_text())["identity"]
    assert {"clip_sha256", "clip_tokenizer_sha256"} <= set(identity)
    assert "clip_sha256" not in json.loads((tmp_path / "plain" / "manifest.json").read_text())["identity"]
    assert code_of(lambda: paint(tmp_path, "best", keep_best=1)) == 4, "another choice is another table"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"rank_by": "clip"}, "--rank-by clip: goes with --clip DIR"),
        ({"clip": "dir"}, "--clip dir: goes with --rank-by clip"),
        ({"clip": "dir", "rank_by": "logp"}, "--clip dir: goes with --rank-by clip"),
    ],
)
def test_both_flags_or_none(flags: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ChoiceConfig(keep_best=1, **flags)
