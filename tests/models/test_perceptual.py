"""The perceptual distance against a computation of its own, and the files that it takes its weights from."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from painter_core.models.perceptual import PerceptualDistance
from painter_core.training.perceptual_weights import load_perceptual, perceptual_files

# of torchvision's VGG16: places of the convolutions in `features`, by stage, and their widths
CONVOLUTIONS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
WIDTHS = (64, 128, 256, 512, 512)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pictures in [0, 1]
SIDE = 32


def formula(*shape: int) -> Tensor:
    """Weights that keep a signal's size."""
    size = math.prod(shape)
    return torch.sin(torch.arange(size) * 12.9898).reshape(shape) * 2 / math.sqrt(size / shape[0])


def vgg_state() -> dict[str, Tensor]:
    """Formula weights under torchvision's names."""
    state, previous = {}, 3
    for places, width in zip(CONVOLUTIONS, WIDTHS, strict=True):
        for place in places:
            state[f"features.{place}.weight"] = formula(width, previous, 3, 3)
            state[f"features.{place}.bias"] = 0.1 * formula(width)
            previous = width
    return state


def head_state() -> dict[str, Tensor]:
    """Formula weights under LPIPS's names, none below 0."""
    return {f"lin{k}.model.1.weight": formula(1, width, 1, 1).abs() for k, width in enumerate(WIDTHS)}


def formula_vgg(heads: bool = False) -> PerceptualDistance:
    """The distance with formula weights."""
    model = PerceptualDistance(heads=heads)
    model.load_state_dict(vgg_state() | (head_state() if heads else {}))
    return model


def by_hand(a: Tensor, b: Tensor, heads: dict[str, Tensor]) -> Tensor:
    """LPIPS, layer by layer, from the paper's formula."""
    state, total = vgg_state(), 0.0
    x = torch.cat((a, b)) / 2 + 0.5
    x = torch.stack([(x[:, c] - MEAN[c]) / DEVIATION[c] for c in range(3)], 1)
    for k, places in enumerate(CONVOLUTIONS):
        x = x if k == 0 else F.max_pool2d(x, 2)
        for place in places:
            x = F.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1)
            x = x.clamp(min=0)
        unit = x / ((x**2).sum(1, keepdim=True).sqrt() + 1e-10)
        weights = heads.get(f"lin{k}.model.1.weight", torch.ones(1, WIDTHS[k], 1, 1))[0, :, 0, 0]
        squares = (unit[: len(a)] - unit[len(a) :]) ** 2
        total = total + torch.einsum("bchw,c->bhw", squares, weights).mean((1, 2))
    return total


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, SIDE, SIDE, generator=generator) * 2 - 1 for _ in range(2))
    return a, b


@pytest.mark.parametrize("heads", [False, True])
def test_distance_is_that_of_the_paper(pair: tuple[Tensor, Tensor], heads: bool) -> None:
    a, b = pair
    model = formula_vgg(heads)
    torch.testing.assert_close(
        model(a, b), by_hand(a, b, head_state() if heads else {}), rtol=1e-4, atol=1e-5
    )
    assert (model(a, b) > 0).all()
    assert (model(a, a) == 0).all()


def test_gradient_leads_nearer_and_leaves_the_weights_alone(pair: tuple[Tensor, Tensor]) -> None:
    wanted, model = pair[0], formula_vgg()
    rec = pair[1].clone().requires_grad_()
    before = model(rec, wanted).mean()
    before.backward()
    assert rec.grad is not None
    step = 0.01 * SIDE * rec.grad / rec.grad.norm()
    assert model((rec - step).detach(), wanted).mean() < before.detach()
    assert not any(p.requires_grad for p in model.parameters())


def test_where_nothing_fires_the_gradient_is_finite(pair: tuple[Tensor, Tensor]) -> None:
    state = {k: torch.full_like(v, -1.0) if k == "features.2.bias" else v for k, v in vgg_state().items()}
    state["features.2.weight"] = torch.zeros_like(state["features.2.weight"])  # all of relu1_2 is 0
    model = PerceptualDistance(heads=False)
    model.load_state_dict(state)
    rec = pair[0].clone().requires_grad_()
    model(rec, pair[1]).sum().backward()
    assert rec.grad is not None
    assert torch.isfinite(rec.grad).all()


def test_weights_come_from_the_users_files(tmp_path: Path, pair: tuple[Tensor, Tensor]) -> None:
    """A .pth with torchvision's classifier in it, beside a .safetensors file of heads."""
    classifier = {f"classifier.{n}.{kind}": torch.zeros(1) for n in (0, 3, 6) for kind in ("weight", "bias")}
    torch.save(vgg_state() | classifier, tmp_path / "vgg16.pth")
    save_file(head_state(), tmp_path / "heads.safetensors")
    files = perceptual_files(f"{tmp_path}/vgg16.pth, {tmp_path}/heads.safetensors")
    torch.testing.assert_close(load_perceptual(files)(*pair), formula_vgg(heads=True)(*pair))
    torch.testing.assert_close(load_perceptual(files[:1])(*pair), formula_vgg()(*pair))
    with pytest.raises(ValueError, match="no such file"):
        perceptual_files(f"{tmp_path}/vgg16.pth,{tmp_path}/other.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features.0.bias": None}, "1 missing: features.0.bias"),
        ({"lin3.model.1.weight": None}, "1 missing: lin3.model.1.weight"),
        ({"features.1.weight": torch.zeros(1)}, "1 unexpected: features.1.weight"),
        ({"features.0.weight": torch.zeros(64, 3, 5, 5)}, "1 misshapen: features.0.weight"),
        ({"features.0.bias": torch.full((64,), torch.nan)}, "features.0.bias holds something else"),
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path: Path, changes: dict, message: str) -> None:
    state = {k: v for k, v in (vgg_state() | head_state() | changes).items() if v is not None}
    save_file(state, tmp_path / "vgg.safetensors")
    with pytest.raises(ValueError, match=message):
        load_perceptual([tmp_path / "vgg.safetensors"])


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"nothing of the kind")
    (tmp_path / "a.pth").write_bytes(b"nothing of the kind")
    for name in ("a.safetensors", "a.pth"):
        with pytest.raises(ValueError, match=f"{name}: damaged"):
            load_perceptual([tmp_path / name])
    save_file(head_state(), tmp_path / "heads.safetensors")
    with pytest.raises(ValueError, match="stands in another of the files too"):
        load_perceptual([tmp_path / "heads.safetensors"] * 2)
