"""CLIP score, likelihood and reconstruction of the whole job are what their models compute."""

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from painter_core.compute.memory import MOST_VALUES, vqgan_most_rows
from painter_core.evaluation.reconstruction import psnr
from painter_core.images.decode import decode_image
from painter_core.images.pixels import to_pixels, to_uint8
from painter_core.model_files.chinese_clip import open_clip
from painter_core.model_files.open import open_model
from painter_core.models.perceptual import PerceptualDistance
from painter_core.models.vqgan import Decoder, Encoder
from painter_core.stages.codes_table import open_samples
from painter_core.training.gpt import validate
from painter_core.training.worker import lone_worker
from tests.models.test_perceptual import head_state, vgg_state
from tests.support.codes_table import make_codes
from tests.support.evaluation import PAIRS, caption, encoded, judge, write_pictures
from tests.support.jobs import SMALL_VQGAN
from tests.support.judges import TINY_CLIP, picture

ROWS = 24


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "p.tsv", range(ROWS))


def numbers(outputs: Path) -> dict[str, list]:
    """scores.parquet, column by column."""
    return pq.read_table(outputs / "scores.parquet").to_pydict()


def test_clip_score_is_the_models_cosine(pictures: Path, clip: Path, tmp_path: Path) -> None:
    score = judge(pictures, tmp_path / "o", metrics="clip", clip=str(clip))["tables"][0]["clip"]
    found, opened = numbers(tmp_path / "o"), open_clip(str(clip))
    model, tokenizer = opened.load(), opened.load_tokenizer()
    for i in (0, 5, ROWS - 1):
        ids = torch.zeros(1, 52, dtype=torch.long)
        words = [2, *tokenizer.encode([caption(i)])[0], 3]
        ids[0, : len(words)] = torch.tensor(words)
        small = torch.from_numpy(resized(picture(i)))[None]
        wanted = float((model.embed_images(small) * model.embed_texts(ids)).sum())
        assert found["clip_score"][i] == pytest.approx(wanted, abs=1e-5)
    assert score["score"] == pytest.approx(np.mean(found["clip_score"]))
    assert score["shuffled"] == pytest.approx(np.mean(found["clip_score_shuffled"]))
    assert score["recall_at_10"] == np.mean(np.array(found["clip_rank"]) < 10)
    assert (score["among"], set(found["clip_among"])) == (ROWS, {ROWS})
    text = (tmp_path / "o" / "score.md").read_text()
    assert "CLIP cosine | shuffled captions | R@1 of 24 | R@10 of 24" in text


def resized(pixels: np.ndarray) -> np.ndarray:
    """As cn_clip does: bicubic and squashed."""
    side = (TINY_CLIP.image_size, TINY_CLIP.image_size)
    return np.array(Image.fromarray(pixels).resize(side, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("suffix", ["", ".parquet", ".tsv"])
def test_likelihood_of_codes_is_the_loss_of_training(
    suffix: str, pictures: Path, model: Path, tmp_path: Path, cache: Path
) -> None:
    """On a pairs table the same as on its codes, row by row; a codes table may be one file."""
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(pictures.read_text())
    codes = make_codes(pairs, model, tmp_path / f"codes{suffix}")
    of_codes = judge(codes, tmp_path / "c", metrics="likelihood", checkpoint_dir=str(model))["tables"][0]
    opened = open_model(str(model))
    gpt = opened.load_gpt()
    lengths = {"text_len": gpt.config.text_len, "codebook_size": gpt.config.codebook_size}
    url = f"{codes}.run" if suffix else str(codes)
    samples = open_samples(url, opened.load_tokenizer(), **lengths)
    loss = validate(gpt, samples, lone_worker("fp32", use_gpu=False), 16)
    assert of_codes["likelihood"]["nats_per_code"] == pytest.approx(loss, rel=1e-6)
    if not suffix:
        judge(pairs, tmp_path / "p", metrics="likelihood", checkpoint_dir=str(model), input=PAIRS)
        assert numbers(tmp_path / "p")["bits_per_code"] == numbers(tmp_path / "c")["bits_per_code"]
        bits = numbers(tmp_path / "c")["bits_per_code"]
        assert np.std(bits) > 1e-3
        assert of_codes["likelihood"]["bits_per_code"] == pytest.approx(loss / math.log(2), rel=1e-6)
        assert "<img" in (tmp_path / "c" / "report.html").read_text(), "codes are shown decoded"


@pytest.mark.long
def test_reconstruction_is_measured_on_the_crop_that_the_vqgan_sees(
    pictures: Path, tiny_vqgan: Path, inception: Path, tmp_path: Path
) -> None:
    save_file(vgg_state() | head_state(), tmp_path / "lpips.safetensors")
    found = judge(
        pictures, tmp_path / "o", reconstruction=True, vqgan=str(tiny_vqgan), inception=str(inception),
        perceptual_weights=str(tmp_path / "lpips.safetensors"), limit=4, micro_batch_size=4,
    )["tables"][0]["reconstruction"]  # fmt: skip
    model = open_model(str(tiny_vqgan)).load_vqgan()
    crop = decode_image(encoded(picture(0)), SMALL_VQGAN.image_size, "bilinear")[None]
    with torch.inference_mode():
        rec = to_uint8(model.decode(model.encode(to_pixels(torch.from_numpy(crop)))))
    rows = numbers(tmp_path / "o")
    assert rows["psnr"][0] == pytest.approx(float(psnr(crop, np.asarray(rec))[0]), abs=0.01)
    assert found["psnr"] == pytest.approx(np.mean(rows["psnr"]))
    assert found["ssim"] == pytest.approx(np.mean(rows["ssim"]))
    assert found["lpips"] == pytest.approx(np.mean(rows["lpips"]))
    assert 0 < found["lpips"] < 10
    assert found["rfid"]["value"] > 0
    page = (tmp_path / "o" / "report.html").read_text()
    assert "<figcaption>original</figcaption>" in page
    assert "Best by PSNR" in page
    with_none = judge(pictures, tmp_path / "n", reconstruction=True, vqgan=str(tiny_vqgan), limit=4)
    of_table = with_none["tables"][0]["reconstruction"]
    assert (of_table["psnr"], of_table["lpips"], of_table["rfid"]) == (found["psnr"], None, None)


def test_a_vqgan_is_given_no_more_pictures_than_its_maps_allow(
    pictures: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's kernels may count the values of a map with 32 bits."""
    save_file(vgg_state() | head_state(), tmp_path / "lpips.safetensors")
    weights = str(tmp_path / "lpips.safetensors")
    flags: dict[str, dict[str, object]] = {
        "rec": {"reconstruction": True, "vqgan": str(model), "perceptual_weights": weights},
        "likelihood": {"metrics": "likelihood", "checkpoint_dir": str(model)},
    }
    most = vqgan_most_rows(SMALL_VQGAN, "cpu")
    whole = {}
    for name, given in flags.items():
        judge(pictures, tmp_path / f"{name}_whole", limit=5, micro_batch_size=5, **given)
        whole[name] = numbers(tmp_path / f"{name}_whole")
    monkeypatch.setitem(MOST_VALUES, "cpu", 2 * MOST_VALUES["cpu"] // most)
    assert vqgan_most_rows(SMALL_VQGAN, "cpu") == 2
    rows: dict[type, set[int]] = {Encoder: set(), Decoder: set(), PerceptualDistance: set()}

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if type(module) in rows:
            rows[type(module)].add(len(inputs[0]))

    hook = register_module_forward_pre_hook(look)
    try:
        for name, given in flags.items():
            judge(pictures, tmp_path / name, limit=5, micro_batch_size=5, **given)
    finally:
        hook.remove()
    assert rows == {Encoder: {1, 2}, Decoder: {1, 2}, PerceptualDistance: {1, 2}}
    for name, expected in whole.items():
        found = numbers(tmp_path / name)
        for column in ("psnr", "lpips") if name == "rec" else ("bits_per_code",):
            np.testing.assert_allclose(found[column], expected[column], rtol=1e-4)
