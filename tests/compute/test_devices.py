"""How a worker computes: precision, layout, and what it does when a GPU runs out of memory."""

import pytest
import torch
from torch import Tensor

from painter_core.compute.cpus import cpu_has_amx
from painter_core.compute.devices import (
    painting_precision,
    prepare_vqgan,
    resolve_precision,
)
from painter_core.compute.pieces import Pieces
from painter_core.models.vqgan import VQGAN
from tests.support.jobs import TINY_VQGAN, compiles

CPU = torch.device("cpu")


def tiny_vqgan() -> VQGAN:
    """Random weights, codes that differ."""
    torch.manual_seed(3)
    model = VQGAN(TINY_VQGAN).eval()
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.3)
    return model


def pixels(rows: int) -> Tensor:
    """In [-1, 1]."""
    side = TINY_VQGAN.image_size
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


class SmallGPU:
    """Work that runs out of memory above so many rows."""

    def __init__(self, fits: int) -> None:
        self.fits, self.calls = fits, [0][:0]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        self.calls.append(len(a))
        if len(a) > self.fits:
            raise torch.OutOfMemoryError("too many rows")
        return a + b


@pytest.mark.parametrize(
    ("rows", "fits", "expected"),
    [(16, 16, [16]), (16, 4, [16, 8, 4, 4, 4, 4]), (12, 5, [12, 6, 3, 3, 3, 3]), (7, 3, [7, 3, 3, 1])],
)
def test_pieces_shrink_until_they_fit(rows: int, fits: int, expected: list[int]) -> None:
    pieces, work = Pieces(rows), SmallGPU(fits)
    a, b = torch.arange(rows), torch.arange(rows) * 10
    assert torch.equal(pieces.run(work, a, b), a + b)
    assert work.calls == expected
    work.calls.clear()
    pieces.run(work, a, b)
    assert max(work.calls) <= fits, "the next batch starts with what fitted"


@pytest.mark.parametrize(
    ("rows", "most", "expected"),
    [(512, 128, [128] * 4), (100, 64, [50] * 2), (16, 128, [16]), (131, 128, [128, 3])],
)
def test_pieces_have_at_most_so_many_rows(rows: int, most: int, expected: list[int]) -> None:
    work = SmallGPU(rows)
    assert torch.equal(
        Pieces(rows, most).run(work, torch.ones(rows), torch.ones(rows)), torch.full((rows,), 2.0)
    )
    assert work.calls == expected


def test_one_row_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Pieces(4).run(SmallGPU(0), torch.zeros(4), torch.zeros(4))


@torch.inference_mode()
def test_bf16_vqgan_stays_near_fp32() -> None:
    exact = prepare_vqgan(tiny_vqgan(), CPU, "fp32")
    near = prepare_vqgan(tiny_vqgan(), CPU, "bf16")
    x = pixels(8)
    codes = exact.encode(x)
    assert (near.encode(x) == codes).float().mean() > 0.9
    assert near.quantize.embedding.weight.dtype == torch.float32
    assert (near.decode(codes).float() - exact.decode(codes)).abs().max() < 0.1
    assert torch.equal(exact.encode(x[2:4]), codes[2:4])


@compiles
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "same", "off"), [("fp32", 0.99, 0.001), ("bf16", 0.9, 0.1)])
@torch.inference_mode()
def test_compiled_vqgan_computes_the_same(precision: str, same: float, off: float) -> None:
    exact = prepare_vqgan(tiny_vqgan(), CPU, "fp32")
    compiled = prepare_vqgan(tiny_vqgan(), CPU, precision, compiled=True)
    x = pixels(8)
    codes = exact.encode(x)
    assert (compiled.encode(x) == codes).float().mean() > same
    assert (compiled.decode(codes).float() - exact.decode(codes)).abs().max() < off


def test_precision_is_chosen_by_device() -> None:
    assert (resolve_precision("auto", gpu=True), resolve_precision("auto", gpu=False)) == ("bf16", "fp32")
    assert (resolve_precision("tf32", gpu=True), resolve_precision("bf16", gpu=False)) == ("tf32", "bf16")
    with pytest.raises(ValueError, match="tf32"):
        resolve_precision("tf32", gpu=False)


def test_painting_takes_bf16_where_the_cpu_is_fast_in_it() -> None:
    assert painting_precision("auto", gpu=True) == "bf16"
    assert painting_precision("fp32", gpu=False) == "fp32"
    assert painting_precision("auto", gpu=False) == ("bf16" if cpu_has_amx() else "fp32")
    for all_have_it, expected in ((True, "bf16"), (False, "fp32")):
        assert painting_precision("auto", gpu=False, amx=lambda found=all_have_it: found) == expected
    with pytest.raises(ValueError, match="tf32"):
        painting_precision("tf32", gpu=False)
