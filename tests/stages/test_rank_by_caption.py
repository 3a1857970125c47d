"""generate.py --rank-by caption: pictures are kept by how likely their caption is, as caption.py has it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from painter_core import pipeline
from painter_core.painting.sampling import SamplingConfig
from tests.support import captioning
from tests.support.captioning import caption_table, write_captioner
from tests.support.local_run import code_of
from tests.support.painting import CAPTIONS, config_of, paint_table, write_painter, write_prompts

pytestmark = pytest.mark.usefixtures("one_thread")

N = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("rank") / "model")


def paint(model: Path, tmp_path: Path, outputs: str, **flags: object) -> pa.Table:
    prompts = write_prompts(tmp_path / "prompts.tsv")
    flags = {"max_generated_num": N, "sampling": SamplingConfig(top_k=20), "codes_column": True} | flags
    return paint_table(config_of(model, prompts, tmp_path / outputs, **flags))


@pytest.mark.parametrize("guidance", [1.0, pytest.param(2.0, marks=pytest.mark.slow)])
def test_the_likeliest_caption_is_first(guidance: float, model: Path, tmp_path: Path) -> None:
    sampling = SamplingConfig(top_k=20, guidance_scale=guidance)
    whole = paint(model, tmp_path, "whole", output_schema="idx,text", sampling=sampling)
    flags = {"output_schema": "idx,text", "sampling": sampling, "score_columns": True}
    ranked = paint(model, tmp_path, "ranked", keep_best=N, rank_by="caption", **flags)
    assert ranked.column_names == [
        "idx", "text", "sample", "rank", "score_logp", "score_gain", "score_caption", "codes",
    ]  # fmt: skip
    assert ranked["codes"].equals(whole["codes"]), "the same pictures are drawn"
    flags = {"score_only": True, "micro_batch_size": 4}
    scored = caption_table(captioning.config_of(model, tmp_path / "ranked", tmp_path / "scored", **flags))
    found = np.array(ranked["score_caption"].to_pylist())
    np.testing.assert_allclose(found, scored["score"].to_pylist(), atol=1e-4)
    ranks = np.array(ranked["rank"].to_pylist()).reshape(-1, N)
    expected = np.argsort(np.argsort(-found.reshape(-1, N), axis=1, kind="stable"), axis=1)
    assert ranks.tolist() == expected.tolist()
    assert len({tuple(row) for row in ranks.tolist()}) > 1
    best = paint(model, tmp_path, "best", sampling=sampling, keep_best=1, rank_by="caption")
    first = ranked.filter(pa.compute.equal(ranked["rank"], 0))
    assert best["sample"].to_pylist() == first["sample"].to_pylist()
    assert best["codes"].to_pylist() == first["codes"].to_pylist()


def test_only_the_ranking_depends_on_the_text_head(model: Path, tmp_path: Path) -> None:
    identities = {}
    for name, flags in (("plain", {}), ("ranked", {"keep_best": 1, "rank_by": "caption"})):
        paint(model, tmp_path, name, **flags)
        identities[name] = json.loads((tmp_path / name / "manifest.json").read_text())["identity"]
    assert "text_head_sha256" not in identities["plain"]
    assert "text_head_sha256" in identities["ranked"]


def test_a_model_that_only_paints_is_refused(tmp_path: Path) -> None:
    paints = write_painter(tmp_path / "paints")
    assert code_of(lambda: paint(paints, tmp_path, "out", keep_best=1, rank_by="caption")) == 2
    with pytest.raises(ValueError, match="--rank-by caption: the model only paints"):
        pipeline("text2image_generation", str(paints), keep_best=1, rank_by="caption", max_generated_num=2)


def test_the_pipeline_ranks_alike(model: Path, tmp_path: Path) -> None:
    paints = pipeline(
        "text2image_generation", str(model), max_generated_num=N, keep_best=2, rank_by="caption", top_k=20,
        device="cpu", precision="fp32",
    )  # fmt: skip
    for found in paints(list(CAPTIONS[:2])):
        assert found["rank"] == [0, 1]
        assert found["score_caption"][0] >= found["score_caption"][1]
