"""The quantizer's three forms against their formulas in float64."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from painter_core.models.quantizer import Quantizer
from painter_core.models.vqgan import VQGAN, VQGANConfig
from tests.support.foreign import VQGAN_TINY

LATENTS, ENTRIES, WIDTH = 4000, 512, 8


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def quantizer(form: str, *, normalised: bool = False) -> Quantizer:
    """With entries, and a projection if it has one, of random weights."""
    made = Quantizer(ENTRIES, WIDTH, form)  # type: ignore[arg-type]
    for seed, parameter in enumerate(made.parameters(), 1):
        parameter.copy_(drawn(*parameter.shape, seed=seed))
    if normalised:
        made.embedding.weight.copy_(F.normalize(made.embedding.weight, dim=1))
    return made


def differing(made: Quantizer, z: Tensor, expected: Tensor) -> int:
    with torch.inference_mode():
        return int((made.codes(z) != expected).sum())


def nearest_codes(made: Quantizer, z: Tensor) -> Tensor:
    return torch.cdist(z.double(), made.embedding.weight.double()).argmin(1)


def dot_codes(made: Quantizer, z: Tensor) -> Tensor:
    return (z.double() @ made.embedding.weight.double().T).argmax(1)


def projected_codes(made: Quantizer, z: Tensor) -> Tensor:
    return (z.double() @ made.proj.weight.double().T + made.proj.bias.double()).argmax(1)


@pytest.mark.parametrize(
    ("form", "reference"), [("nearest", nearest_codes), ("dot", dot_codes), ("projected", projected_codes)]
)
def test_codes_are_those_of_the_formula(form: str, reference) -> None:
    made, z = quantizer(form), drawn(LATENTS, WIDTH)
    assert differing(made, z, reference(made, z)) == 0
    with torch.autocast("cpu", torch.bfloat16):
        assert differing(made, z, reference(made, z)) == 0


def test_the_forms_are_not_the_same() -> None:
    z = drawn(LATENTS, WIDTH)
    nearest, dot = quantizer("nearest"), quantizer("dot")
    assert differing(nearest, z, dot_codes(dot, z)) > LATENTS / 4
    assert differing(quantizer("projected"), z, dot_codes(dot, z)) > LATENTS / 2


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5])
def test_normalised_entries_hold_for_short_latents(scale: float) -> None:
    """The product finds the nearest direction at any length; |e|^2 / 2 would round it away."""
    z = scale * F.normalize(drawn(LATENTS, WIDTH), dim=1)
    made = quantizer("dot", normalised=True)
    expected = (F.normalize(z.double(), dim=1) @ made.embedding.weight.double().T).argmax(1)
    assert differing(made, z, expected) == 0
    if scale == 1e-5:
        assert differing(quantizer("nearest", normalised=True), z, expected) > 0


def test_a_picture_is_made_of_the_codebook() -> None:
    """Also with a projection, whose weights say which entry, and not what it is."""
    model = VQGAN(dataclasses.replace(VQGAN_TINY, quantizer="projected")).eval()
    names = set(model.state_dict())
    plain = VQGAN(VQGAN_TINY).eval()
    assert names - set(plain.state_dict()) == {"quantize.proj.weight", "quantize.proj.bias"}
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if ".proj." not in k})
    codes = torch.arange(64)[None]
    with torch.inference_mode():
        assert torch.equal(model.decode(codes), plain.decode(codes))


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(ValueError, match=r"vqgan.quantizer: got 'fsq', expected one of nearest, dot, proj"):
        VQGANConfig(quantizer="fsq")  # type: ignore[arg-type]
