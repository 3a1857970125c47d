"""Steps of training as plain functions: optimizers, empty captions, and taking them up again."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from painter_core.models.gpt import GPT, GPTConfig
from painter_core.training.gpt import loss_sum, start_from_codebook, train_step
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import (
    can_skip_on_device,
    make_optimizers,
    set_learning_rate,
    step_if_finite,
)
from painter_core.training.samples import Samples
from painter_core.training.worker import Worker

TINY = GPTConfig(
    text_vocab_size=40, codebook_size=32, text_len=4, image_len=9, n_layer=2, n_head=2, n_embd=16
)
ALONE = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")


def samples(n: int = 16) -> Samples:
    """Captions that say what the codes are: all of a picture's codes are the caption's first id."""
    rng = np.random.default_rng(0)
    names = rng.integers(1, 20, (n, 1))
    text = np.concatenate([names + TINY.codebook_size, np.full((n, 3), TINY.codebook_size)], 1)
    codes = np.repeat(names, TINY.image_len, 1).astype(np.uint16)
    return Samples(text_ids=text.astype(np.int32), codes=codes, pad_id=TINY.codebook_size)


def config(optimizer: str) -> TrainConfig:
    return TrainConfig(
        tables="-", checkpoint_dir="-", optimizer=optimizer, learning_rate=5e-3, micro_batch_size=16
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "micro"), [(16, 16), (7, 2), (5, 3), (1, 4), (11, 1)])
def test_the_loss_is_the_mean_over_all_codes_of_the_batch(rows: int, micro: int) -> None:
    """However it is cut into micro-batches: of codes alone, not of the caption."""
    torch.manual_seed(0)
    model, data = GPT(TINY), samples()
    text, codes = data.batch(np.arange(rows), ALONE.device)
    logits = model(torch.cat((text, codes[:, :-1]), 1))
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, TINY.codebook_size), codes.flatten())
    expected.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    settings = dataclasses.replace(config("adamw"), micro_batch_size=micro)
    loss, found = train_step(model, make_optimizers(model, settings), data, np.arange(rows), settings, ALONE)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert found == pytest.approx(float(norm), rel=1e-4)


def test_weight_decay_is_of_the_matrices_of_linear_layers() -> None:
    model = GPT(TINY)
    (adamw,) = make_optimizers(model, config("adamw"))
    decayed, others = (group["params"] for group in adamw.param_groups)
    linear = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    assert {id(p) for p in decayed} == linear
    assert len(decayed) + len(others) == len(list(model.parameters()))
    assert [g["weight_decay"] for g in adamw.param_groups] == [1e-4, 0.0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_taken_up_again_takes_the_same_steps(optimizer: str) -> None:
    torch.manual_seed(0)
    model, data, settings = GPT(TINY), samples(), config(optimizer)
    optimizers = make_optimizers(model, settings)
    rows = np.arange(len(data))

    def steps(model: GPT, optimizers: list[torch.optim.Optimizer], n: int) -> list[float]:
        losses = []
        for step in range(n):
            set_learning_rate(optimizers, 5e-3 / (step + 1))
            losses.append(train_step(model, optimizers, data, rows, settings, ALONE)[0])
        return losses

    losses = steps(model, optimizers, 20)
    assert losses[-1] < losses[0] - 0.3
    again = GPT(TINY)
    again.load_state_dict(model.state_dict())
    taken_up = make_optimizers(again, settings)
    for ours, stored in zip(taken_up, [copy.deepcopy(o.state_dict()) for o in optimizers], strict=True):
        ours.load_state_dict(stored)
    assert steps(again, taken_up, 3) == steps(model, optimizers, 3)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = GPT(TINY)
    muon, adamw = make_optimizers(model, config("muon"))
    taken = {id(p) for o in (muon, adamw) for group in o.param_groups for p in group["params"]}
    assert taken == {id(p) for p in model.parameters()}
    matrices = {name for name, p in model.blocks.named_parameters() if p.ndim == 2}
    by_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    assert {name for name, p in model.blocks.named_parameters() if id(p) in by_muon} == matrices
    decayed = {id(p) for group in adamw.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(model.head.weight)}


def test_new_codes_lie_to_each_other_as_the_entries_of_the_codebook() -> None:
    torch.manual_seed(0)
    model = GPT(TINY)
    text = model.tok_emb.weight[TINY.codebook_size :].clone()
    halves = torch.randn(TINY.codebook_size // 2, 6)
    start_from_codebook(model, torch.cat((halves, halves + 0.01)))  # code i + 16 is close to code i
    for weight in (model.tok_emb.weight[: TINY.codebook_size], model.head.weight):
        alike = torch.nn.functional.cosine_similarity(weight[:, None], weight[None], dim=-1)
        pairs = alike[torch.arange(16), torch.arange(16, 32)]
        assert pairs.mean() > 0.7
        assert alike[:16, :16].fill_diagonal_(0).abs().mean() < 0.5
        assert 0.01 < weight.std() < 0.03
        assert alike.fill_diagonal_(0).max() < 1 - 1e-4  # no two are the same
    assert torch.equal(model.tok_emb.weight[TINY.codebook_size :], text)


def test_a_dropped_caption_is_the_empty_one() -> None:
    model, data = GPT(TINY), samples(4)
    dropped = np.array([False, True, False, True])
    text, codes = data.batch(np.array([3, 0, 1]), torch.device("cpu"), dropped)
    expected = torch.from_numpy(data.text_ids[[0, 1, 3]].astype(np.int64))
    expected[1:] = TINY.codebook_size
    assert torch.equal(text, expected)
    assert codes.tolist() == data.codes[[0, 1, 3]].tolist()
    assert torch.isfinite(loss_sum(model, text, codes))


def test_a_device_leaves_out_a_step_that_is_not_finite() -> None:
    torch.manual_seed(0)
    model, data, settings = GPT(TINY), samples(), config("adamw")
    twin = copy.deepcopy(model)
    optimizers, others = make_optimizers(model, settings), make_optimizers(twin, settings)
    one = torch.ones(())
    assert can_skip_on_device(optimizers, one)
    assert not can_skip_on_device(make_optimizers(GPT(TINY), config("muon")), one)
    for bad in (one * float("nan"), one * float("inf"), one):
        for network in (model, twin):
            loss_sum(network, *data.batch(np.arange(4), ALONE.device)).backward()
        before = copy.deepcopy(model.state_dict())
        step_if_finite(optimizers, bad, one)
        if bad.isfinite():
            others[0].step()
        others[0].zero_grad()
        same = all(
            torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True)
        )
        assert same is not bool(bad.isfinite())
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
        assert all(p.grad is None for p in model.parameters())
    assert {int(s["step"]) for s in optimizers[0].state.values()} == {1}


def test_the_global_batch_stands_apart_from_what_is_done_at_once() -> None:
    whole = TrainConfig(tables="-", checkpoint_dir="-", batch_size=100, micro_batch_size=8)
    assert (whole.global_batch_size(3), config("adamw").global_batch_size(3)) == (100, 48)
    with pytest.raises(ValueError, match=r"--batch-size 100: .*--gradient-accumulation-steps"):
        TrainConfig(tables="-", checkpoint_dir="-", batch_size=100, gradient_accumulation_steps=2)
