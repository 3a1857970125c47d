"""pipeline(): results as the article uses them, the same ones every time and in the generate job."""

import base64
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import painter_core
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGANConfig
from painter_core.painting.pipeline import Pipeline, pipeline
from tests.golden.formula import captions, tokens
from tests.support.foreign import write_easynlp

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDEN = Path(__file__).parents[1] / "golden"
TASK = "text2image_generation"
TEXTS = ["丁七万丈", "三上下"]


@pytest.fixture(scope="module")
def paint(model: str) -> Pipeline:
    return pipeline(TASK, model, device="cpu", precision="fp32", micro_batch_size=1)


def decoded(cell: str) -> Image.Image:
    # as the article does it
    return Image.open(BytesIO(base64.urlsafe_b64decode(cell)))


def test_as_in_the_article(paint: Pipeline) -> None:
    results = paint(TEXTS)
    assert [list(r) for r in results] == [["gen_imgbase64"]] * 2
    for result, image in zip(results, paint.images(TEXTS), strict=True):
        picture = decoded(result["gen_imgbase64"])
        assert (picture.format, picture.size, picture.mode) == ("PNG", (32, 32), "RGB")
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(image))
    assert paint(TEXTS) == results
    assert paint(TEXTS[0]) == results[:1]
    assert paint([]) == []


def test_a_caption_is_painted_alike_in_any_company(paint: Pipeline, model: str) -> None:
    results = paint(TEXTS)
    assert paint([TEXTS[0], "另外的话"[:1] + "丙", "丁"])[0] == results[0]
    assert pipeline(model, device="cpu", precision="fp32", micro_batch_size=1)(TEXTS) == results
    assert pipeline(model, device="cpu", seed=43)(TEXTS) != results


def test_several_pictures_a_caption(paint: Pipeline, model: str) -> None:
    several = pipeline(TASK, model, device="cpu", precision="fp32", micro_batch_size=1, max_generated_num=3)
    results = several(TEXTS)
    assert [len(r["gen_imgbase64"]) for r in results] == [3, 3]
    assert len(set(results[0]["gen_imgbase64"])) == 3
    assert [r["gen_imgbase64"][0] for r in results] == [r["gen_imgbase64"] for r in paint(TEXTS)]
    images = several.images(TEXTS)
    assert len(images) == 6
    np.testing.assert_array_equal(np.asarray(images[4]), np.asarray(decoded(results[1]["gen_imgbase64"][1])))


def test_micro_batches_change_nothing_but_rounding(paint: Pipeline, model: str) -> None:
    one = np.stack([np.asarray(i, np.int16) for i in paint.images(TEXTS)])
    for size in (4, None):
        many = pipeline(TASK, model, device="cpu", precision="fp32", micro_batch_size=size).images(TEXTS)
        assert np.abs(np.stack([np.asarray(i, np.int16) for i in many]) - one).max() <= 1


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["丁", ""], "text 1: '' leaves no token|text 1: '': leaves no token"),
        (["\u200b"], "text 0: .* leaves no token"),
        (["😀"], "text 0: .* all of its tokens are unknown"),
        (["丁", None], "text 1: got NoneType, expected a string"),
    ],
)
def test_texts_that_cannot_be_painted(paint: Pipeline, texts: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paint(texts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_generated_num": 0}, "max_generated_num: got 0"),
        ({"micro_batch_size": 0}, "micro_batch_size: got 0"),
        ({"top_k": -1}, "top-k: got -1"),
        ({"graphs": "perhaps"}, "graphs: got 'perhaps', expected one of auto, on, off"),
        ({"graphs": "on", "device": "cpu"}, "graphs on: only GPUs"),
    ],
)
def test_bad_arguments(model: str, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(TASK, model, **arguments)


def test_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str) -> None:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path))
    monkeypatch.delenv("PAINTER_ZOO", raising=False)
    monkeypatch.setenv("PAINTER_OFFLINE", "1")
    for name in ("pai-painter-commercial-base-zh", TASK):
        with pytest.raises(ValueError, match=r"PAINTER_OFFLINE is set, so https:.* is not asked"):
            pipeline(name)
    with pytest.raises(ValueError, match="names a model itself"):
        pipeline("pai-painter-commercial-base-zh", model)
    with pytest.raises(TypeError, match="text_len"):
        pipeline(TASK, model, text_len=32)  # type: ignore[call-arg]


def test_import_is_light() -> None:
    code = "import sys, painter_core as p; print('torch' in sys.modules, 'numpy' in sys.modules, p.__all__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False False ['__version__', 'pipeline']"
    assert painter_core.pipeline is pipeline
    with pytest.raises(AttributeError, match="has no attribute 'pipelines'"):
        _ = painter_core.pipelines


@pytest.mark.slow
def test_full_size_golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full-size EasyNLP directory and captions give the reference's pictures."""
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))
    source = write_easynlp(tmp_path / "pai-painter-base-zh", VQGANConfig(), GPTConfig())
    texts = captions(tokens(2, 32, 16384, 37512))
    with torch.inference_mode():
        paint = pipeline(TASK, str(source), top_k=1, micro_batch_size=2, device="cpu", precision="fp32")
        images = paint.images(texts)
    expected = np.load(GOLDEN / "gpt_base_pictures.npz")["pictures"].astype(np.int16)
    difference = np.abs(np.stack([np.asarray(i, np.int16) for i in images]) - expected)
    assert difference.max() <= 1
