"""Training of a VQGAN: what one step promises, and the bundled weights. The job: test_photographs.py."""

import dataclasses
import io

import numpy as np
import pytest
import torch

from painter_core.images.pixels import to_pixels, to_uint8
from painter_core.model_files.open import open_model
from painter_core.models.discriminator import PatchDiscriminator
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.sample.judge import Judge, score
from painter_core.sample.pictures import sample_row
from painter_core.training.run_flags import TrainingRunFlags
from painter_core.training.vqgan import VQGANTrainer, learning_rate
from painter_core.training.vqgan_config import VQGANTrainConfig
from painter_core.training.vqgan_losses import DiscriminatorLoss, adversarial_weight
from painter_core.training.vqgan_validation import contact_sheet, validate
from painter_core.training.worker import Worker
from tests.models.test_perceptual import formula_vgg
from tests.support.jobs import TINY_VQGAN

BATCH = 4
pytestmark = pytest.mark.usefixtures("one_thread")  # sums in one order, so that equal means equal

SIDE = 16
GEOMETRY = dataclasses.replace(TINY_VQGAN, image_size=SIDE)  # which the discriminator can just judge
ONE_CPU = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")
FRESH = 64  # sample pictures that the bundled VQGAN never saw
BUNDLED_BYTES = 6 * 2**20


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    rows = (sample_row(31, i, split="train", image_size=SIDE) for i in range(24))
    return np.stack([np.asarray(row.image) for row in rows])


def make_trainer(
    geometry: VQGANConfig = GEOMETRY, worker: Worker = ONE_CPU, perceptual=None, **changes: object
) -> VQGANTrainer:
    """A tiny trainer with fixed weights, whose codebook is in use from its second step on."""
    settings: dict = {
        "tables": "-", "outputs": "-", "geometry": geometry, "micro_batch_size": BATCH, "max_steps": 40,
        "learning_rate": 1e-3, "quantize_after": 1, "run": TrainingRunFlags(random_seed=3),
    }  # fmt: skip
    if "vqgan" in changes:
        del settings["geometry"], settings["quantize_after"]
    torch.manual_seed(3)
    return VQGANTrainer(VQGAN(geometry), VQGANTrainConfig(**(settings | changes)), worker, perceptual)


def train(trainer: VQGANTrainer, pictures: np.ndarray, steps: int) -> list[dict[str, float]]:
    """Metrics of the next steps; batches follow from the step's number."""
    found = []
    for _ in range(steps):
        if count := trainer.pictures_for_codebook:
            trainer.lay_out_codebook(pictures[:count])
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
        trainer.care.use[1:] = 0.0
        train(trainer, pictures, 24)
        return trainer

    trainer = grown()
    entries = trainer.vqgan.quantize.embedding.weight.detach()
    assert entries.abs().max() < 1e3 / 2, "no entry was left behind"
    with torch.inference_mode():
        assert len(trainer.vqgan.encode(to_pixels(pictures)).unique()) > 4
    assert torch.equal(entries, grown().vqgan.quantize.embedding.weight), "revival is a function of the seed"


def test_codebook_is_laid_out_over_more_pictures_than_a_batch() -> None:
    """As with f16_16384, where a picture has 256 latents."""
    entries, in_a_batch = 1024, BATCH * GEOMETRY.image_len
    trainer = make_trainer(dataclasses.replace(GEOMETRY, codebook_size=entries), quantize_after=0)
    count = trainer.pictures_for_codebook
    assert count * GEOMETRY.image_len >= entries > in_a_batch
    noise = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    trainer.lay_out_codebook(noise)
    with torch.inference_mode():
        assert len(trainer.vqgan.encode(to_pixels(noise)).unique()) > 0.9 * entries
    train(trainer, noise, 1)
    assert trainer.pictures_for_codebook == 0


def test_perceptual_term_pulls_too(pictures: np.ndarray) -> None:
    found = train(
        make_trainer(perceptual=formula_vgg(), perceptual_weights="vgg", perceptual_weight=0.5), pictures, 7
    )
    without = train(make_trainer(), pictures, 1)[0]
    assert found[0]["train_rec"] == without["train_rec"]
    assert found[0]["train_loss"] == pytest.approx(
        without["train_loss"] + 0.5 * found[0]["train_perceptual"], rel=1e-5
    )
    # the seventh batch is the first one again
    assert found[-1]["train_perceptual"] < 0.9 * found[0]["train_perceptual"]


def test_bf16_is_autocast_with_float32_weights(pictures: np.ndarray) -> None:
    trainer = make_trainer(worker=dataclasses.replace(ONE_CPU, precision="bf16"))
    found = train(trainer, pictures, 12)
    assert found[-1]["train_rec"] < 0.9 * found[0]["train_rec"]
    assert found[0]["train_rec"] != train(make_trainer(), pictures, 1)[0]["train_rec"]
    assert {t.dtype for t in trainer.vqgan.state_dict().values()} == {torch.float32}
    assert {t.dtype for t in trainer.average.values()} == {torch.float32}


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
    assert all(step["train_disc_weight"] > 0 for step in found)
    assert not torch.equal(trainer.discriminator.main[0].weight, young["main.0.weight"])
    pixels = to_pixels(pictures[:BATCH])
    rec, *_ = trainer.model(pixels, True)
    error, fooled = (rec - pixels).abs().mean(), -trainer.discriminator(rec).mean()
    last = trainer.vqgan.decoder.conv_out.weight
    weight = adversarial_weight(error, fooled, last)
    assert not weight.requires_grad
    gradients = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (error, fooled)]
    assert float(weight) == pytest.approx(float(gradients[0] / gradients[1]), rel=1e-2)


def test_discriminator_sees_real_and_painted_pictures_apart() -> None:
    torch.manual_seed(1)
    loss = DiscriminatorLoss(PatchDiscriminator())
    real, painted = torch.rand(BATCH, 3, SIDE, SIDE), torch.rand(BATCH, 3, SIDE, SIDE) * 0.1 - 0.9
    with torch.no_grad():
        apart = [loss.discriminator(pictures) for pictures in (real, painted)]
        together = loss.discriminator(torch.cat((real, painted))).chunk(2)
        found = float(loss(real, painted))

    def hinge(real: torch.Tensor, painted: torch.Tensor) -> float:
        return float((1 - real).clamp(min=0).mean() + (1 + painted).clamp(min=0).mean()) / 2

    assert found == pytest.approx(hinge(*apart))
    assert abs(found - hinge(*together)) > 0.01, "statistics of the one kind reached the other"


@pytest.mark.long
def test_resumed_training_repeats_the_unbroken_run(pictures: np.ndarray) -> None:
    """With quantizer and discriminator before the break, and revival (step 25) after it."""
    unbroken = make_trainer(disc_start=22)
    train(unbroken, pictures, 24)
    unbroken.care.use[:4] = 0.0
    file = io.BytesIO()
    torch.save(unbroken.state(), file)
    file.seek(0)
    expected = train(unbroken, pictures, 4)
    resumed = make_trainer(disc_start=22)
    resumed.load_state(torch.load(file, weights_only=True))
    assert train(resumed, pictures, 4) == expected
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


@pytest.mark.parametrize("spoiled", ["loss", "gradient"])
def test_not_finite_in_the_discriminators_own_step_changes_nothing(
    pictures: np.ndarray, spoiled: str
) -> None:
    trainer = make_trainer(disc_start=2)
    train(trainer, pictures, 3)
    factor = torch.tensor(float("nan"))
    if spoiled == "loss":
        hook = trainer.disc_model.register_forward_hook(lambda module, inputs, loss: loss * factor)
    else:
        hook = trainer.discriminator.main[-1].weight.register_hook(lambda gradient: gradient * factor)
    modules = (trainer.vqgan, trainer.discriminator)
    before = [{k: v.clone() for k, v in module.named_parameters()} for module in modules]
    (found,) = train(trainer, pictures, 1)
    assert np.isnan(found["train_disc" if spoiled == "loss" else "disc_grad_norm"])
    assert trainer.step == 3
    for module, kept in zip(modules, before, strict=True):
        assert all(torch.equal(v, kept[k]) for k, v in module.named_parameters())
    hook.remove()
    assert np.isfinite(list(train(trainer, pictures, 1)[0].values())).all()
    assert trainer.step == 4


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
    assert 0 < found["valid_l1"] < 2
    sheet = contact_sheet(make_trainer().averaged(), pictures[:3])
    assert sheet.shape == (2 * SIDE, 3 * SIDE, 3)
    assert np.array_equal(sheet[:SIDE, SIDE : 2 * SIDE], pictures[1])
    assert 1 <= found["valid_perplexity"] <= found["valid_usage"] * GEOMETRY.codebook_size


@pytest.mark.long
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
