"""Training of a VQGAN: what one step promises, the job on users' pictures, and the bundled weights."""

import base64
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from painter_core.checkpoint import open_model
from painter_core.judge import Judge, score
from painter_core.models.vqgan import VQGAN
from painter_core.pixels import to_pixels, to_uint8
from painter_core.sample_pictures import sample_row
from painter_core.training import Worker
from painter_core.vqgan_training import VQGANTrainConfig, VQGANTrainer, learning_rate, validate
from tests.conftest import TINY_VQGAN, Jobs

BATCH = 4
SIDE = TINY_VQGAN.image_size
ONE_CPU = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")
FRESH = 128  # sample pictures that the bundled VQGAN never saw
BUNDLED_BYTES = 6 * 2**20


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, so that equal means equal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    rows = (sample_row(31, i, split="train", image_size=SIDE) for i in range(24))
    return np.stack([np.asarray(row.image) for row in rows])


def make_trainer(**changes: object) -> VQGANTrainer:
    """A tiny trainer with fixed weights, whose codebook is in use from its second step on."""
    settings: dict = {
        "tables": "-", "outputs": "-", "geometry": TINY_VQGAN, "micro_batch_size": BATCH, "max_steps": 40,
        "learning_rate": 1e-3, "quantize_after": 1, "random_seed": 3,
    }  # fmt: skip
    torch.manual_seed(3)
    return VQGANTrainer(VQGAN(TINY_VQGAN), VQGANTrainConfig(**(settings | changes)), ONE_CPU)


def train(trainer: VQGANTrainer, pictures: np.ndarray, steps: int) -> list[dict[str, float]]:
    """Metrics of the next steps; batches follow from the step's number."""
    found = []
    for _ in range(steps):
        rows = (np.arange(BATCH) + trainer.step * BATCH) % len(pictures)
        found.append(trainer.train_step(pictures[rows]))
    return found


def test_reconstruction_improves(pictures: np.ndarray) -> None:
    found = [step["train_rec"] for step in train(make_trainer(), pictures, 30)]
    assert np.mean(found[-5:]) < 0.7 * np.mean(found[:5])


def test_decoder_only_keeps_every_code(pictures: np.ndarray) -> None:
    trainer = make_trainer(decoder_only=True, vqgan="given", ema_decay=0.5)
    pixels = to_pixels(pictures)
    with torch.inference_mode():
        codes, painted = trainer.vqgan.encode(pixels), trainer.vqgan.decode(trainer.vqgan.encode(pixels))
    kept = {k: v.clone() for k, v in trainer.vqgan.state_dict().items()}
    train(trainer, pictures, 30)  # past a step at which dead entries would move
    averaged = trainer.averaged()
    for name, value in averaged.state_dict().items():
        learns = name.startswith(("decoder.", "post_quant_conv."))
        assert learns or torch.equal(value, kept[name]), name
    with torch.inference_mode():
        assert torch.equal(averaged.encode(pixels), codes)
        assert not torch.allclose(averaged.decode(codes), painted)


def test_unused_entries_move_to_latents(pictures: np.ndarray) -> None:
    def grown() -> VQGANTrainer:
        trainer = make_trainer()
        train(trainer, pictures, 2)
        # all but one entry far away from every latent: the collapse that revival is there for
        trainer.vqgan.quantize.embedding.weight.data[1:] = 1e3
        trainer.use[1:] = 0.0
        train(trainer, pictures, 24)
        return trainer

    trainer = grown()
    entries = trainer.vqgan.quantize.embedding.weight.detach()
    assert entries.abs().max() < 1e3 / 2, "no entry was left behind"
    with torch.inference_mode():
        assert len(trainer.vqgan.encode(to_pixels(pictures)).unique()) > 4
    assert torch.equal(entries, grown().vqgan.quantize.embedding.weight), "revival is a function of the seed"


def test_average_lies_between_the_weights(pictures: np.ndarray) -> None:
    trainer = make_trainer(ema_decay=0.5, quantize_after=1000)
    train(trainer, pictures, 3)
    name = "decoder.conv_out.weight"
    expected = trainer.average[name].clone()
    train(trainer, pictures, 1)
    weights = trainer.vqgan.state_dict()[name]
    decay = min(0.5, (1 + trainer.step) / (10 + trainer.step))
    torch.testing.assert_close(trainer.average[name], decay * expected + (1 - decay) * weights)
    assert torch.equal(trainer.averaged().state_dict()[name], trainer.average[name])


def test_discriminator_starts_late_with_an_adaptive_weight(pictures: np.ndarray) -> None:
    trainer = make_trainer(disc_start=3)
    young = {k: v.clone() for k, v in trainer.discriminator.state_dict().items()}
    found = train(trainer, pictures, 3)
    assert all("train_disc" not in step for step in found)
    assert all(torch.equal(v, young[k]) for k, v in trainer.discriminator.state_dict().items())
    found = train(trainer, pictures, 3)
    assert all(0 <= step["train_disc"] < 10 for step in found)
    assert not torch.equal(trainer.discriminator.main[0].weight, young["main.0.weight"])
    pixels = to_pixels(pictures[:BATCH])
    rec, *_ = trainer.model(pixels, True)
    weight = trainer._adversarial_weight((rec - pixels).abs().mean(), rec)
    assert torch.isfinite(weight)
    assert weight > 0
    assert not weight.requires_grad


def test_resumed_training_repeats_the_unbroken_run(pictures: np.ndarray) -> None:
    """With quantizer, revival (step 25) and discriminator after the break."""
    unbroken = make_trainer(disc_start=23)
    train(unbroken, pictures, 22)
    file = io.BytesIO()
    torch.save(unbroken.state(), file)
    file.seek(0)
    expected = train(unbroken, pictures, 6)
    resumed = make_trainer(disc_start=23)
    resumed.load_state(torch.load(file, weights_only=True))
    assert train(resumed, pictures, 6) == expected
    for name, value in unbroken.average.items():
        assert torch.equal(value, resumed.average[name]), name


def test_not_finite_changes_nothing(pictures: np.ndarray) -> None:
    trainer = make_trainer()
    train(trainer, pictures, 2)
    with torch.no_grad():
        trainer.vqgan.decoder.conv_out.bias.fill_(float("nan"))
    before = trainer.vqgan.state_dict()["decoder.conv_in.weight"].clone()
    assert np.isnan(train(trainer, pictures, 1)[0]["train_loss"])
    assert trainer.step == 2
    assert torch.equal(trainer.vqgan.state_dict()["decoder.conv_in.weight"], before)


def test_learning_rate_rises_then_falls() -> None:
    config = dataclasses.replace(make_trainer().config, max_steps=100, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == 0.5
    assert max(rates) == rates[1] == 1.0
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 0.02 <= rates[-1] < 0.03


def test_validate_scores_what_would_be_saved(pictures: np.ndarray) -> None:
    found = validate(make_trainer().averaged(), pictures, batch_size=7)
    assert found == pytest.approx(validate(make_trainer().averaged(), pictures), rel=1e-3)
    assert 0 < found["valid_psnr"] < 20
    assert 1 <= found["valid_perplexity"] <= found["valid_usage"] * TINY_VQGAN.codebook_size


def jpeg_cells() -> list[str]:
    """Base64 of photographs as users have them: odd sizes, in grey, RGB, CMYK, with a palette or alpha."""
    rng = np.random.default_rng(0)
    cells = []
    sizes = ((33, 47), (200, 31), (64, 64), (97, 301), (40, 500), (255, 129))
    modes = (("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("RGB", "WEBP"))
    for size, (mode, kind) in ((size, mode) for size in sizes for mode in modes):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize(size, Image.Resampling.BICUBIC).convert(mode).save(file, kind)
        cells.append(base64.b64encode(file.getvalue()).decode())
    return cells


def test_job_makes_a_vqgan_from_photographs(jobs: Jobs, tmp_path: Path) -> None:
    cells = jpeg_cells()
    table, out = tmp_path / "photos.tsv", tmp_path / "vqgan"
    broken = base64.b64encode(b"\xff\xd8\xff\xe0 no picture").decode()
    rows = [f"p{i}\t照片{i}\t{cell}\n" for i, cell in enumerate([*cells, broken])]
    table.write_text("".join(rows), encoding="utf-8")
    geometry = ("--image-size", 32, "--ch", 32, "--ch-mult", 1, 1, "--num-res-blocks", 1,
                "--attn-resolutions", 16, "--z-channels", 8, "--embed-dim", 8, "--codebook-size", 32,
                )  # fmt: skip
    flags = ("--tables", table, "--outputs", out, *geometry, "--max-steps", 12, "--micro-batch-size", 4,
             "--quantize-after", 4, "--disc-start", 9, "--save-checkpoint-steps", 6, "--logging-steps", 1,
             "--precision", "fp32", "--max-reject-fraction", 0.1)  # fmt: skip
    jobs.run("train_vqgan", *flags)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train_rec" in line] == list(range(1, 13))
    assert {"valid_psnr", "valid_usage", "valid_perplexity"} <= set().union(*lines)
    made = open_model(str(out / "last")).load_vqgan()
    assert made.config.ch_mult == (1, 1)
    card = (out / "last" / "README.md").read_text(encoding="utf-8")
    assert f"{len(cells)} pictures" in card, "one row was rejected"
    assert list((out / "tensorboard").iterdir())
    assert "learning_rate" in jobs.run("train_vqgan", *flags, "--learning-rate", "1e-4", code=4)


def test_bundled_vqgan_keeps_its_promises() -> None:
    model = open_model("bundled")
    assert sum(p.stat().st_size for p in model.path.iterdir()) <= BUNDLED_BYTES
    vqgan = model.load_vqgan()
    size = vqgan.config.image_size
    rows = [sample_row(77_001, i, split="held_out", image_size=size) for i in range(FRESH)]
    pictures = np.stack([np.asarray(row.image) for row in rows])
    found = validate(vqgan, pictures)
    assert found["valid_psnr"] >= 26
    assert found["valid_usage"] >= 0.6
    with torch.inference_mode():
        painted = to_uint8(vqgan.decode(vqgan.encode(to_pixels(pictures))))
    assert score(Judge(size).read(painted), [row.attributes for row in rows]).single >= 0.97
