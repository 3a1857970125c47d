"""pipeline(): the options of the job, scores, starting pictures, progress, calls that take a whole batch."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from painter_core.painting.painter import CPU_ROWS, Painter
from painter_core.painting.pipeline import Pipeline, pipeline
from painter_core.painting.sampling import SamplingConfig
from tests.support.painting import CAPTIONS, config_of, paint_table, write_painter

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = list(CAPTIONS)
N = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("options") / "model")


def make(model: Path, **options: Any) -> Pipeline:
    given = {"device": "cpu", "precision": "fp32", "micro_batch_size": 4, "top_k": 20} | options
    return pipeline(str(model), **given)


def test_a_call_paints_what_the_job_paints(model: Path, tmp_path: Path) -> None:
    lines = "".join(f"{i}\t{text}\n" for i, text in enumerate(TEXTS))
    (tmp_path / "prompts.tsv").write_text(lines, encoding="utf-8")
    table = paint_table(
        config_of(
            model, tmp_path / "prompts.tsv", tmp_path / "out", max_generated_num=N, keep_best=2,
            score_columns=True, sampling=SamplingConfig(top_k=20),
        )
    ).to_pylist()  # fmt: skip
    found = make(model, max_generated_num=N, keep_best=2, scores=True)(TEXTS)
    for i, result in enumerate(found):
        rows = sorted(table[2 * i : 2 * i + 2], key=lambda row: row["rank"])
        assert list(result) == ["gen_imgbase64", "sample", "rank", "score_logp", "score_gain"]
        for name, values in result.items():
            assert values == [row[name] for row in rows], "the best first"
    (one,) = make(model, max_generated_num=N, keep_best=1)(TEXTS[0])
    assert list(one) == ["gen_imgbase64", "sample", "rank", "score_logp"]
    assert one["rank"] == 0
    assert isinstance(one["gen_imgbase64"], str)


@pytest.mark.parametrize("scores", [False, True])
def test_progress_is_told(scores: bool, model: Path) -> None:
    told: list[tuple[int, int]] = []
    paint = make(model, max_generated_num=N, scores=scores)
    paint(TEXTS, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 15), (8, 15), (12, 15), (15, 15)]


def test_pictures_are_painted_on(model: Path) -> None:
    paint = make(model)
    started = [picture.resize((50, 40)) for picture in paint.images(TEXTS)]
    encoded = io.BytesIO()
    started[0].save(encoded, "PNG")
    found = paint.images(TEXTS, init_images=[encoded.getvalue(), *started[1:]], init_share=0.5)
    again = paint.images(TEXTS, init_images=started, init_share=0.5)
    np.testing.assert_array_equal([np.asarray(p) for p in found], [np.asarray(p) for p in again])
    other = paint.images(TEXTS, init_images=started, init_share=0.25)
    assert (np.asarray(other[0]) != np.asarray(found[0])).any()
    with pytest.raises(ValueError, match="init_images: got 1 for 5 texts"):
        paint(TEXTS, init_images=started[:1])
    with pytest.raises(ValueError, match=r"init_images\[1\]: img_unidentified"):
        paint(TEXTS[:2], init_images=[started[0], b"no picture at all"])
    with pytest.raises(ValueError, match="keeps 0 of the 4 rows"):
        paint(TEXTS[:1], init_images=started[:1], init_share=0.01)


def test_codes_are_decoded_scored_and_painted_on(model: Path, tmp_path: Path) -> None:
    lines = "".join(f"{i}\t{text}\n" for i, text in enumerate(TEXTS))
    (tmp_path / "prompts.tsv").write_text(lines, encoding="utf-8")
    flags = {"codes_column": True, "score_columns": True, "sampling": SamplingConfig(top_k=20)}
    table = paint_table(config_of(model, tmp_path / "prompts.tsv", tmp_path / "out", **flags))
    codes = table["codes"].to_pylist()
    for guidance_scale in (1.0, 2.0):  # of no meaning where nothing is drawn
        found = make(model, scores=True, guidance_scale=guidance_scale)(TEXTS, init_codes=codes)
        assert [r["gen_imgbase64"] for r in found] == table["gen_imgbase64"].to_pylist()
        for name in ("score_logp", "score_gain"):
            np.testing.assert_allclose([r[name] for r in found], table[name], rtol=1e-4, atol=1e-4)
    paint = make(model, max_generated_num=2)
    upper = [np.array(c[:4], np.uint16) for c in codes]
    again = paint(TEXTS, init_codes=upper, init_share=0.25)
    assert [r["gen_imgbase64"][0] for r in again] == table["gen_imgbase64"].to_pylist(), "the same draws"
    for given, message in (
        ({"init_codes": codes}, "init_codes: whole pictures, of which nothing is drawn"),
        ({"init_codes": codes[:1], "init_share": 0.5}, "init_codes: got 1 for 5 texts"),
        ({"init_codes": codes, "init_share": 0.0}, "keeps 0 of the 4 rows of codes"),
        ({"init_codes": upper, "init_share": 0.5}, r"init_codes\[0\]: 4 codes, the model reads 16, or the"),
        ({"init_codes": [[64] * 16] * 5, "init_share": 0.5}, r"init_codes\[0\]: code 64 is outside"),
        ({"init_codes": [[0.5] * 16] * 5, "init_share": 0.5}, r"init_codes\[0\]: got float64 \(16,\)"),
        ({"init_codes": codes, "init_images": [b""] * 5}, "init_images and init_codes: expected one"),
    ):
        with pytest.raises(ValueError, match=message):
            paint(TEXTS, **given)


def test_a_call_is_one_model_call(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without micro_batch_size the rows of a call are computed together, nothing is filled up."""
    sizes: list[int] = []
    sample = Painter._sample
    monkeypatch.setattr(
        Painter, "_sample", lambda self, ids, *rest: sizes.append(len(ids)) or sample(self, ids, *rest)
    )
    paint = make(model, micro_batch_size=None)
    for number, expected in ((1, [1]), (5, [5]), (CPU_ROWS + 6, [35, 35])):
        paint.images([TEXTS[i % 5] for i in range(number)])
        assert sizes == expected
        sizes.clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_best": 2}, "--keep-best: got 2, expected 1 to 1"),
        ({"rank_by": "gain"}, "--rank-by gain: goes with --keep-best"),
        ({"keep_best": 1, "rank_by": "clip"}, "--rank-by clip: goes with --clip DIR"),
    ],
)
def test_wrong_options(model: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(model, **options)


def test_gain_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    make(write_painter(tmp_path / "m", caption_dropout=0.0), scores=True)
    assert "has never seen an empty caption" in caplog.text
