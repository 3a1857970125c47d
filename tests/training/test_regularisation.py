"""Noise of training: what it does to a row, that it belongs to the row, and that it is off by default."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from painter_core.models.dropout import dropped, mixed, random_bits
from painter_core.models.gpt import GPT
from painter_core.training.both_ways import BothWaysFlags
from painter_core.training.data_order import row_keys
from painter_core.training.gpt import noisy_loss_sum, train_step
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import make_optimizers
from painter_core.training.regularisation import (
    NOTHING_DRAWN,
    Draws,
    RegularisationFlags,
    draws_of,
    partly_replaced,
)
from painter_core.training.run_flags import bound_settings
from painter_core.training.weight_average import WeightAverage
from tests.training.test_training import ALONE, TINY, config, samples

pytestmark = pytest.mark.usefixtures("one_thread")

NOISE = RegularisationFlags(pkeep=0.7, dropout=0.2, label_smoothing=0.1)


def keys(n: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(row_keys(seed, 0, n))


def test_random_bits_are_even_and_unlike_their_neighbours() -> None:
    bits = random_bits(keys(16), (16, 200, 256))
    z = (bits.double() + 2**31) / 2**32 - 0.5  # even in -1/2..1/2
    assert abs(z.mean()) < 0.002
    assert float(z.var() * 12) == pytest.approx(1, abs=0.01)
    neighbours = [
        (z[1:], z[:-1]),
        (z[:, 1:], z[:, :-1]),
        (z[..., 1:], z[..., :-1]),
        (z[..., 8:], z[..., :-8]),
    ]
    assert all(abs((a * b).mean() * 12) < 0.01 for a, b in neighbours)
    assert not torch.equal(random_bits(mixed(keys(16), 1), (16, 4)), random_bits(mixed(keys(16), 2), (16, 4)))
    assert random_bits(torch.tensor([5, -7], dtype=torch.int32), (2, 3)).tolist() == [
        random_bits(torch.tensor([key], dtype=torch.int32), (1, 3))[0].tolist() for key in (5, -7)
    ], "a row's bits are its own"


def test_random_bits_are_the_same_for_ever() -> None:
    """Literals: a run that was begun by an older version goes on with the same noise."""
    assert random_bits(mixed(torch.tensor([42], dtype=torch.int32), 3), (1, 2, 2)).flatten().tolist() == BITS
    assert row_keys(42, 1, 3).tolist() == KEYS


BITS = [-1548816597, -2084503735, -339648538, 162669027]
KEYS = [-1966715970, 652265854, 1714835118]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_is_dropped_and_the_rest_scaled_up(share: float) -> None:
    found = dropped(torch.ones(32, 50, 60), keys(32), share)
    assert float((found == 0).double().mean()) == pytest.approx(share, abs=0.01)
    torch.testing.assert_close(found.max(), torch.tensor(1 / (1 - share)))
    assert float(found.mean()) == pytest.approx(1, abs=0.01)


def test_codes_are_replaced_by_any_code_of_the_book() -> None:
    codes = torch.full((64, 200), 7)
    found = partly_replaced(codes, keys(64), 0.8, 32)
    replaced = found[found != 7]
    assert len(replaced) / found.numel() == pytest.approx(0.2 * 31 / 32, abs=0.01)
    counts = torch.bincount(replaced, minlength=32)
    assert (counts.min(), counts.max()) > (0, 0)
    assert int(counts[torch.arange(32) != 7].min()) > 50
    assert partly_replaced(codes, keys(64), 0.0, 32).unique().numel() == 32
    assert torch.equal(partly_replaced(codes, keys(64), 1.0, 32), codes)


def test_what_is_replaced_is_the_input_and_not_the_target() -> None:
    seen: list[torch.Tensor] = []

    def model(idx: torch.Tensor, _: None, keys: torch.Tensor) -> torch.Tensor:
        seen.append(idx)
        return torch.nn.functional.one_hot(codes, TINY.codebook_size) * 100.0

    text, codes = samples().batch(np.arange(4), ALONE.device)
    loss = noisy_loss_sum(
        model,
        text,
        codes,
        keys(4),
        RegularisationFlags(pkeep=0.5),
        TINY.codebook_size,  # type: ignore[arg-type]
    )
    assert float(loss) == 0.0
    assert torch.equal(seen[0][:, : TINY.text_len], text)
    assert not torch.equal(seen[0][:, TINY.text_len :], codes[:, :-1])


def gpt(dropout: float = 0.2) -> GPT:
    torch.manual_seed(0)
    model = GPT(TINY)
    model.dropout = dropout
    return model


def test_dropout_belongs_to_the_row() -> None:
    """Alone, in a batch, or computed again in the backward pass."""
    text, codes = samples().batch(np.arange(6), ALONE.device)
    idx, model = torch.cat((text, codes[:, :-1]), 1), gpt()
    together = model(idx, None, keys(6))
    torch.testing.assert_close(together[4:5], model(idx[4:5], None, keys(6)[4:5]))
    assert not torch.allclose(together, model(idx, None, keys(6, seed=2)))
    assert torch.equal(model(idx), gpt(0.0)(idx, None, keys(6))), (
        "nothing is dropped without keys, or a share"
    )
    model.activation_checkpointing = True
    again = model(idx, None, keys(6))
    assert torch.equal(again, together)
    for found in (together, again):
        found.sum().backward()
        norms = [float(p.grad.norm()) for p in model.parameters()]
        model.zero_grad()
        assert norms == pytest.approx(norms_of(gpt(), idx), rel=1e-5)


def norms_of(model: GPT, idx: torch.Tensor) -> list[float]:
    model(idx, None, keys(6)).sum().backward()
    return [float(p.grad.norm()) for p in model.parameters()]  # type: ignore[union-attr]


@pytest.mark.parametrize("micro", [16, 5, 1])
def test_the_noise_of_a_batch_does_not_depend_on_how_it_is_cut(micro: int) -> None:
    settings = dataclasses.replace(config("adamw"), micro_batch_size=micro, regularisation=NOISE)
    draws = draws_of(NOISE, samples(), seed=3, epoch=1, caption_dropout=0.3)
    model, rows = gpt(), np.random.default_rng(0).permutation(16)
    loss, norm = train_step(model, make_optimizers(model, settings), samples(), rows, settings, ALONE, draws)
    assert (loss, norm) == pytest.approx((LOSS, NORM), rel=1e-5)
    quiet, _ = train_step(gpt(), [], samples(), rows, settings, ALONE)
    assert abs(quiet - loss) > 0.001


LOSS, NORM = 3.4670946333143444, 1.8959723711013794


def test_draws_are_of_seed_epoch_and_row_and_cost_nothing_if_off() -> None:
    def drawn(**more: Any) -> Draws:
        return draws_of(NOISE, samples(9), **({"seed": 3, "epoch": 1, "caption_dropout": 0.0} | more))

    first = drawn().keys
    assert first is not None
    assert np.array_equal(first, drawn().keys)  # type: ignore[arg-type]
    others = [drawn(seed=4).keys, drawn(epoch=2).keys]
    assert all(not np.array_equal(first, other) for other in others)  # type: ignore[arg-type]
    off = RegularisationFlags(ema_decay=0.9, label_smoothing=0.1)
    assert draws_of(off, samples(9), seed=3, epoch=1, caption_dropout=0.0) == NOTHING_DRAWN


def test_what_is_off_is_in_no_identity() -> None:
    plain = TrainConfig(tables="-", checkpoint_dir="-")
    new = {"pkeep", "dropout", "label_smoothing", "ema_decay", "patience"}
    assert not new & set(bound_settings(plain))
    on = dataclasses.replace(plain, regularisation=RegularisationFlags(pkeep=0.9, ema_decay=0.99))
    assert bound_settings(on) == bound_settings(plain) | {"pkeep": 0.9, "ema_decay": 0.99}


def test_the_average_follows_the_weights() -> None:
    model = gpt()
    average = WeightAverage(model, 0.5)
    weight = model.head.weight
    expected = [weight[0, 0].item()]
    for step in (1, 2, 20, 21):
        with torch.no_grad():
            weight += 1
        average.follow(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected.append(decay * expected[-1] + (1 - decay) * weight[0, 0].item())
    assert float(average.gpt.head.weight[0, 0]) == pytest.approx(expected[-1], rel=1e-6)
    assert not any(p.requires_grad for p in average.gpt.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pkeep": 1.1}, "--pkeep"),
        ({"dropout": 0.95}, "--dropout"),
        ({"label_smoothing": -0.1}, "--label-smoothing"),
        ({"ema_decay": 1.0}, "--ema-decay"),
        ({"patience": 0}, "--patience"),
    ],
)
def test_other_values_are_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegularisationFlags(**given)


def test_captions_are_learned_without_noise() -> None:
    both = {"tables": "t", "checkpoint_dir": "m", "both_ways": BothWaysFlags(image_to_text=0.5)}
    with pytest.raises(ValueError, match=r"--dropout 0.1: not with --image-to-text"):
        TrainConfig(**both, regularisation=RegularisationFlags(dropout=0.1))  # type: ignore[arg-type]
    TrainConfig(**both, regularisation=RegularisationFlags(ema_decay=0.9))  # type: ignore[arg-type]


def test_patience_needs_a_table_to_judge_by() -> None:
    with pytest.raises(
        ValueError, match=r"--patience 2: stops by the validation loss; give --tables TRAIN,VALID"
    ):
        TrainConfig(tables="t", checkpoint_dir="m", regularisation=RegularisationFlags(patience=2))
