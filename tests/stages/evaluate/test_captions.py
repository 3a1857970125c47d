"""--metrics caption: how likely a model finds the captions of pictures, the loss that training reports."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from painter_core.model_files.open import open_model
from painter_core.stages.codes_table import open_samples
from painter_core.training.both_ways import validate_text
from painter_core.training.worker import lone_worker
from tests.support import captioning
from tests.support.captioning import caption_table, write_captioner
from tests.support.codes_table import make_codes
from tests.support.evaluation import PAIRS, judge, write_gpt
from tests.support.local_run import code_of

pytestmark = pytest.mark.usefixtures("one_thread", "cache")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("captions") / "model")


def test_the_log_says_what_the_models_run_on(
    model: Path, write_pairs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pairs = write_pairs(tmp_path / "pairs.tsv", 4)
    judge(pairs, tmp_path / "score", metrics="caption", input=PAIRS, checkpoint_dir=str(model))
    assert caplog.text.count("the model runs on CPUs, in fp32") == 1


def test_it_is_the_loss_of_training_and_the_score_of_caption_py(
    model: Path, write_pairs, tmp_path: Path
) -> None:
    pairs = write_pairs(tmp_path / "pairs.tsv", 24)
    codes = make_codes(pairs, model, tmp_path / "codes")
    flags = {"checkpoint_dir": str(model)}
    found = judge(codes, tmp_path / "c", metrics="caption,likelihood", **flags)["tables"][0]
    opened = open_model(str(model))
    tokenizer, gpt = opened.load_tokenizer(), opened.load_gpt()
    samples = open_samples(str(codes), tokenizer, text_len=8, codebook_size=64)
    loss = validate_text(gpt, samples, lone_worker("fp32", use_gpu=False), 8)
    assert found["caption"]["nats_per_token"] == pytest.approx(loss, rel=1e-6)
    rows = pq.read_table(tmp_path / "c" / "scores.parquet").to_pydict()
    scored = caption_table(captioning.config_of(model, codes, tmp_path / "s", score_only=True))
    per_token = -np.array(scored["score_per_token"].to_pylist())
    np.testing.assert_allclose(rows["caption_nats"], per_token, rtol=1e-5)
    assert found["caption"]["nats_per_caption"] == pytest.approx(
        -np.mean(scored["score"].to_pylist()), rel=1e-6
    )
    assert "| caption nats a token |" in (tmp_path / "c" / "score.md").read_text()
    alone = judge(pairs, tmp_path / "p", metrics="caption", input=PAIRS, **flags)["tables"][0]
    assert alone["caption"] == pytest.approx(found["caption"], rel=1e-6)
    assert alone["likelihood"] is None
    other = judge(codes, tmp_path / "l", metrics="likelihood", **flags)["tables"][0]
    assert other["likelihood"] == found["likelihood"]
    assert "caption" not in other, "score.json is what it was"
    identities = [
        json.loads((tmp_path / name / "manifest.json").read_text())["identity"] for name in ("c", "p", "l")
    ]
    assert ["text_head_sha256" in identity for identity in identities] == [True, True, False]
    assert "likelihood_metrics" not in identities[2]


def test_a_model_that_only_paints_is_refused(tiny_vqgan: Path, write_pairs, tmp_path: Path) -> None:
    model = write_gpt(tmp_path / "paints", tiny_vqgan)
    pairs = write_pairs(tmp_path / "pairs.tsv", 4)
    flags = {"metrics": "caption", "checkpoint_dir": str(model), "input": PAIRS}
    assert code_of(lambda: judge(pairs, tmp_path / "o", **flags)) == 2
    assert not (tmp_path / "o").exists()
