"""Muon in float32: torch's update, without its rounding to bfloat16."""

import copy
import math

import pytest
import torch
from torch import nn

from painter_core.models.gpt import GPT, GPTConfig
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.muon import Muon32
from painter_core.training.optimizers import make_optimizers

SHAPES = [(24, 24), (24, 32), (16, 64), (64, 16)]
FLAGS = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}


def matrices(seed: int) -> list[nn.Parameter]:
    torch.manual_seed(seed)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()


def by_singular_values(update: torch.Tensor) -> torch.Tensor:
    """Five steps of 3.4445 x - 4.775 x^3 + 2.0315 x^5 on each singular value, in float64."""
    left, values, right = torch.linalg.svd(update.double() / update.double().norm(), full_matrices=False)
    for _ in range(5):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    return left @ torch.diag(values) @ right


def test_updates_are_those_of_the_formula() -> None:
    ours = matrices(0)
    optimizer = Muon32(ours, **FLAGS)
    expected = [p.detach().double() for p in ours]
    means = [torch.zeros_like(p) for p in expected]
    for seed in (1, 2, 3):
        step(optimizer, ours, seed)
        for i, parameter in enumerate(ours):
            assert parameter.grad is not None
            gradient = parameter.grad.double()
            means[i] = 0.95 * means[i] + 0.05 * gradient
            update = by_singular_values(0.05 * gradient + 0.95 * means[i])
            rate = 0.02 * 0.2 * math.sqrt(max(gradient.shape))
            expected[i] = expected[i] * (1 - 0.02 * 0.1) - rate * update
    for found, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(found.detach().double(), wanted, rtol=0, atol=2e-6)


def test_torch_takes_the_same_steps_but_for_its_bfloat16() -> None:
    ours, theirs, start = matrices(0), matrices(0), matrices(0)
    optimizer, torchs = Muon32(ours, **FLAGS), torch.optim.Muon(theirs, **FLAGS)
    for seed in (1, 2, 3):
        step(optimizer, ours, seed)
        step(torchs, theirs, seed)
    for a, b, before in zip(ours, theirs, start, strict=True):
        off = (a - b).norm() / (b - before).norm()
        assert 1e-6 < off < 0.03


def test_a_training_that_torch_began_goes_on() -> None:
    ours, theirs = matrices(0), matrices(0)
    torchs, optimizer = torch.optim.Muon(theirs, **FLAGS), Muon32(ours, **FLAGS)
    step(torchs, theirs, 1)
    optimizer.load_state_dict(copy.deepcopy(torchs.state_dict()))
    for parameter, other in zip(ours, theirs, strict=True):
        buffers = optimizer.state[parameter]["momentum_buffer"], torchs.state[other]["momentum_buffer"]
        assert torch.equal(*buffers)


@pytest.mark.parametrize(("precision", "kind"), [("fp32", Muon32), ("bf16", torch.optim.Muon)])
def test_fp32_computes_in_float32(precision: str, kind: type) -> None:
    gpt = GPT(
        GPTConfig(text_vocab_size=8, codebook_size=8, text_len=4, image_len=4, n_layer=1, n_head=1, n_embd=8)
    )
    muon, _ = make_optimizers(gpt, TrainConfig(tables="-", checkpoint_dir="-", optimizer="muon"), precision)
    assert type(muon) is kind
