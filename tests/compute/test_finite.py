"""Numbers that are none: in a file they are refused on loading, out of a network they stop the run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from painter_core.compute.finite import codes_on_host
from painter_core.images.pixels import to_pixels, to_uint8
from painter_core.model_files.directory import ModelDirectory, read_directory, write_model
from painter_core.model_files.sums import write_sums
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import NO_CODE, VQGAN
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.stages.precompute_codes import EncodePictures
from painter_core.text.tokenizer import from_vocab
from painter_core.training.vqgan_validation import validate
from tests.golden.formula import vocab
from tests.support.foreign import GPT_TINY, VQGAN_TINY, formula_state

HUGE = 3e38  # finite in float32 and bfloat16; a product with it is not
SIDE = VQGAN_TINY.image_size
PICTURES = np.random.RandomState(0).randint(0, 256, (5, SIDE, SIDE, 3), np.uint8)


def spoiled(directory: Path, changes: dict[str, float], part: str = "vqgan") -> ModelDirectory:
    """A model in whose named tensors the first number is another one."""
    modules = {}
    for name, kind, config in (("vqgan", VQGAN, VQGAN_TINY), ("gpt", GPT, GPT_TINY)):
        modules[name] = kind(config)
        modules[name].load_state_dict(formula_state(kind, config))
    words = "\n".join(vocab(GPT_TINY.text_vocab_size)).encode()
    write_model(directory, **modules, tokenizer=from_vocab(words), card="")
    state = modules[part].state_dict()
    for tensor, value in changes.items():
        state[tensor].view(-1)[0] = value
    save_file(state, directory / f"{part}.safetensors")
    write_sums(directory)
    return read_directory(directory)


def painter(model: ModelDirectory) -> Painter:
    return Painter(
        model,
        device=torch.device("cpu"),
        precision="fp32",
        sampling=SamplingConfig(),
        seed=1,
        micro_batch_size=2,
    )


def encode(model: ModelDirectory) -> np.ndarray:
    made_by = {"vqgan_sha256": model.vqgan_sha256()}
    encoder = EncodePictures(vqgan=str(model.path), identity=made_by, precision="fp32", micro_batch_size=2)
    return encoder.encode(PICTURES)


def test_latents_that_are_not_finite_are_no_codes(tmp_path: Path) -> None:
    """Every picture would have been code 0 throughout."""
    model = spoiled(tmp_path / "m", {"encoder.conv_out.bias": HUGE, "quant_conv.weight": HUGE})
    with pytest.raises(
        RuntimeError, match=r"m: the VQGAN's latents of 5 of 5 pictures are not finite: .*fp32"
    ):
        encode(model)
    with pytest.raises(RuntimeError, match="latents"):
        validate(model.load_vqgan(), PICTURES)


def test_the_picture_whose_latents_are_not_finite_is_known() -> None:
    vqgan = VQGAN(VQGAN_TINY).eval()
    pixels = to_pixels(PICTURES)
    pixels[1, 0, 5, 5] = float("nan")  # the encoder's norms carry it over the whole picture
    with torch.inference_mode():
        codes, expected = vqgan.encode(pixels), vqgan.encode(to_pixels(PICTURES))
    assert (codes == NO_CODE).any(dim=1).tolist() == [False, True, False, False, False]
    with pytest.raises(RuntimeError, match="this model: the VQGAN's latents of 1 of 5 pictures"):
        codes_on_host(codes, "this model")
    good = codes_on_host(codes[[0, 2, 3, 4]], "this model")
    np.testing.assert_array_equal(good, expected[[0, 2, 3, 4]].numpy().astype(np.uint16))


def test_pixels_that_are_not_finite_are_no_picture(tmp_path: Path) -> None:
    """They would have been black."""
    model = spoiled(tmp_path / "m", {"decoder.norm_out.bias": HUGE, "decoder.conv_out.weight": HUGE})
    with pytest.raises(RuntimeError, match=r"m: the VQGAN's pixels are not finite: .*Copy the model again"):
        list(painter(model).paint([Request(idx="0", text="丁七")]))
    with pytest.raises(RuntimeError, match="pixels are not finite"):
        validate(model.load_vqgan(), PICTURES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_to_uint8_of_what_is_not_finite(value: float) -> None:
    pixels = torch.zeros(2, 3, 4, 4)
    pixels[1, 2, 3, 3] = value
    with pytest.raises(RuntimeError, match="pixels are not finite"):
        to_uint8(pixels)


def test_sound_models_pass(tmp_path: Path) -> None:
    model = spoiled(tmp_path / "m", {})
    assert encode(model).shape == (5, 64)
    ((codes, pictures),) = painter(model).paint([Request(idx="0", text="丁七")])
    assert (codes.shape, pictures.shape) == ((1, 64), (1, SIDE, SIDE, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("part", "tensor", "load"),
    [
        ("vqgan", "encoder.conv_in.bias", ModelDirectory.load_vqgan),
        ("vqgan", "decoder.conv_out.weight", ModelDirectory.load_vqgan),
        ("vqgan", "quantize.embedding.weight", ModelDirectory.codes_sha256),
        ("gpt", "head.weight", ModelDirectory.load_gpt),
        ("gpt", "ln_f.bias", ModelDirectory.load_gpt),
    ],
)
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, value: float, part: str, tensor: str, load: Callable[[ModelDirectory], object]
) -> None:
    with pytest.raises(ValueError, match=rf"m/{part}.safetensors: {tensor} holds NaN or infinity"):
        load(spoiled(tmp_path / "m", {tensor: value}, part))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, value: float) -> None:
    model = GPT(GPT_TINY)
    with torch.no_grad():
        model.head.weight[3, 2] = value
    with pytest.raises(
        RuntimeError, match=r"head.weight holds NaN or infinity, so gpt.safetensors is not written"
    ):
        write_model(tmp_path / "m", gpt=model, card="")
    assert not (tmp_path / "m" / "gpt.safetensors").exists()
