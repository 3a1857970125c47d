"""--image-to-text: losses of both directions, which rows go which way, and what training is without it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.model_files.open import open_model
from painter_core.models.gpt import CAPTIONS, GPT, PAINTS
from painter_core.models.text_targets import text_targets
from painter_core.stages.train.loop import train_as
from painter_core.training.both_ways import BothWays, BothWaysFlags, validate_text
from painter_core.training.checkpoints import latest_checkpoint
from painter_core.training.data_order import captioned_rows, dropped_captions, epoch_order
from painter_core.training.gpt import train_step, update
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import make_optimizers
from painter_core.training.samples import Samples
from tests.support.local_run import code_of, contents, faults
from tests.support.ranks import run_ranks
from tests.support.training import curve_of, gpt_config, train_by, train_here
from tests.training.test_training import ALONE, TINY, config, samples

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

BOTH = dataclasses.replace(TINY, directions=(PAINTS, CAPTIONS))
PAD = TINY.codebook_size
HALF = {"both_ways": BothWaysFlags(image_to_text=0.5), "caption_dropout": 0.2}


def captions() -> Samples:
    """Captions of 0 to 4 tokens: rows 0, 5, 10, 15 have none, rows 4, 9, 14 fill all positions."""
    rng = np.random.default_rng(1)
    text = rng.integers(1, 40, (16, 4)) + PAD
    for row in range(16):
        text[row, row % 5 :] = PAD
    codes = rng.integers(0, PAD, (16, TINY.image_len)).astype(np.uint16)
    return Samples(text_ids=text.astype(np.int32), codes=codes, pad_id=PAD)


def expected_losses(model: GPT, data: Samples, rows: list[int], captioned: np.ndarray) -> list[Tensor]:
    """Means by the formulas, one row after the other."""
    images, texts = [], []
    for row in rows:
        text, codes = (
            torch.from_numpy(data.text_ids[row].astype(int)),
            torch.from_numpy(data.codes[row].astype(int)),
        )
        length = int((text != PAD).sum())
        if captioned[row] and length:
            logits = model(torch.cat((codes, text[:-1]))[None], 0)[1][0]
            targets = (text - PAD)[: length + 1]  # the words, and one end if there is room
            texts += [-logits[i].log_softmax(0)[t] for i, t in enumerate(targets)]
        else:
            logits = model(torch.cat((text, codes[:-1]))[None])[0]
            images += [-logits[i].log_softmax(0)[c] for i, c in enumerate(codes)]
    return [torch.stack(images).mean(), torch.stack(texts).mean()]


@pytest.mark.parametrize("micro", [16, 3])
def test_losses_are_means_over_codes_and_over_text_ids(micro: int) -> None:
    torch.manual_seed(0)
    model, data = GPT(BOTH), captions()
    captioned = np.arange(16) % 2 == 0
    rows = np.array([1, 2, 4, 5, 7, 8, 10, 14, 15])
    expected = expected_losses(model, data, rows.tolist(), captioned)
    (expected[0] + 0.3 * expected[1]).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    task = BothWays(samples=data, captioned=captioned, weight=0.3)
    settings = dataclasses.replace(config("adamw"), micro_batch_size=micro)
    losses, found = update(model, make_optimizers(model, settings), task, rows, settings, ALONE)
    assert losses == pytest.approx([loss.item() for loss in expected], rel=1e-5)
    assert found == pytest.approx(norm.item(), rel=1e-4)
    assert list(task.counts(rows)) == [5 * TINY.image_len, 3 + 4 + 4 + 4]


def test_a_batch_may_have_rows_of_one_kind_only() -> None:
    torch.manual_seed(0)
    model, data = GPT(BOTH), captions()
    optimizers = make_optimizers(model, config("adamw"))
    for share, missing in ((True, 0), (False, 1)):
        task = BothWays(samples=data, captioned=np.full(16, share), weight=1.0)
        losses, norm = update(model, optimizers, task, np.array([1, 2]), config("adamw"), ALONE)
        assert losses[missing] is None
        assert losses[1 - missing] > 1
        assert np.isfinite(norm)
        assert all(p.isfinite().all() for p in model.parameters())


def test_targets_end_with_one_pad() -> None:
    text = torch.tensor([[5, 6, 0, 0], [5, 0, 7, 0], [1, 2, 3, 4], [0, 0, 0, 0]]) + PAD
    none = -100
    expected = [[5, 6, 0, none], [5, 0, none, none], [1, 2, 3, 4], [0, none, none, none]]
    assert text_targets(text, PAD).tolist() == expected


def test_an_empty_caption_is_a_condition_and_never_a_target() -> None:
    """Dropout is of the rows that are painted, and turns nobody around."""
    torch.manual_seed(0)
    model, data = GPT(BOTH), captions()
    rows, everything = np.arange(16), np.ones(16, bool)
    captioned = rows % 2 == 0
    found = [
        [
            s.item()
            for s in BothWays(samples=data, captioned=captioned, weight=1, dropped=d).sums(
                model, rows, ALONE.device
            )
        ]
        for d in (None, everything)
    ]
    assert found[0][1] == found[1][1]
    assert found[0][0] != found[1][0]
    empty = dataclasses.replace(data, text_ids=np.full_like(data.text_ids, PAD))
    task = BothWays(samples=empty, captioned=everything, weight=1)
    assert list(task.counts(rows)) == [16 * TINY.image_len, 0]


def test_rows_go_either_way_by_seed_and_epoch() -> None:
    found = captioned_rows(3, 1, 20000, 0.3)
    assert found.mean() == pytest.approx(0.3, abs=0.01)
    assert (found == captioned_rows(3, 1, 20000, 0.3)).all()
    for other in (captioned_rows(4, 1, 20000, 0.3), captioned_rows(3, 2, 20000, 0.3)):
        assert np.corrcoef(found, other)[0, 1] == pytest.approx(0, abs=0.03)
    dropped = dropped_captions(3, 1, 20000, 0.3)
    assert np.corrcoef(found, dropped)[0, 1] == pytest.approx(0, abs=0.03)
    assert np.corrcoef(found, epoch_order(3, 1, 20000))[0, 1] == pytest.approx(0, abs=0.03)
    assert captioned_rows(3, 1, 9, 1.0).all()


def plain_step(
    model: nn.Module, data: Samples, rows: np.ndarray, settings: TrainConfig
) -> tuple[float, float]:
    """A step as it was before there were two directions."""
    (optimizer,) = make_optimizers(model, settings)  # type: ignore[arg-type]
    total, num_codes = torch.zeros(()), len(rows) * TINY.image_len
    for start in range(0, len(rows), settings.micro_batch_size):
        text, codes = data.batch(rows[start : start + settings.micro_batch_size], ALONE.device)
        logits = model(torch.cat((text, codes[:, :-1]), dim=1))
        loss = F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten(), reduction="sum") * 1.0
        (loss * (1 / num_codes)).backward()
        total += loss.detach()
    norm = nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    return float(total) / num_codes, float(norm)


def test_without_it_training_is_what_it_was_to_the_bit() -> None:
    settings, rows = dataclasses.replace(config("adamw"), micro_batch_size=3), np.arange(16)
    torch.manual_seed(0)
    ours, theirs = GPT(TINY), GPT(TINY)
    theirs.load_state_dict(ours.state_dict())
    found = train_step(ours, make_optimizers(ours, settings), samples(), rows, settings, ALONE)
    assert found == plain_step(theirs, samples(), rows, settings)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


# --- whole runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run of one worker."""
    out = tmp_path_factory.mktemp("alone") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAINTER_CACHE", str(out.parent / "cache"))
        train_here(run_of(codes, out))
    return out


def run_of(codes: Path, out: Path, *, workers: int = 1, **more: object) -> TrainConfig:
    batch = {"batch": 32 // workers} | HALF | more
    return gpt_config(f"{codes},{codes}", out, text_len=16, **batch)


def identity_of(out: Path) -> dict:
    return json.loads((out / "_run" / "plan.json").read_text())["identity"]


def test_a_run_learns_both_and_says_so(alone: Path, codes: Path, tmp_path: Path) -> None:
    lines = curve_of(str(alone))
    steps = [line for line in lines if "train_loss" in line]
    assert len(steps) == 5
    assert all(line["train_text_loss"] > 1 for line in steps)
    valid = [line for line in lines if "valid_loss" in line]
    assert all(line["valid_text_loss"] > 1 for line in valid)
    model = open_model(str(alone))
    assert model.gpt_config is not None
    assert model.gpt_config.directions == (PAINTS, CAPTIONS)
    assert {"image_to_text": 0.5, "text_loss_weight": 1.0}.items() <= identity_of(alone).items()
    train_here(run_of(codes, tmp_path / "plain", both_ways=BothWaysFlags()))
    plain = tmp_path / "plain"
    assert not {"image_to_text", "text_loss_weight"} & set(identity_of(plain))
    assert not list(plain.rglob("text_head.safetensors"))
    assert all("valid_text_loss" not in line for line in curve_of(str(plain)))


def test_validation_is_of_every_caption(alone: Path, codes: Path) -> None:
    gpt, data = open_model(f"{alone}/last").load_gpt(), captions()
    rows = [row for row in range(16) if row % 5]
    model = GPT(BOTH)
    expected = expected_losses(model, data, [*rows, 0], np.ones(16, bool))[1]
    assert validate_text(model, data, ALONE, 3) == pytest.approx(expected.item(), rel=1e-5)
    assert gpt.config.captions


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_workers_have_the_losses_of_one(parallel: str, alone: Path, codes: Path, tmp_path: Path) -> None:
    config = run_of(codes, tmp_path / "model", workers=4, gradient_accumulation_steps=4, parallel=parallel)
    train_by(config, lambda plan: run_ranks(tmp_path / "ranks", 2, train_as, plan))
    for ours, theirs in zip(curve_of(str(tmp_path / "model")), curve_of(str(alone)), strict=True):
        norms = ours.pop("grad_norm", 0), theirs.pop("grad_norm", 0)
        assert ours == pytest.approx(theirs, rel=1e-5)
        assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_a_run_that_was_broken_off_goes_on_to_the_bit(
    alone: Path, codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    config = run_of(codes, out, run={"logging_steps": 3})
    for name, value in faults(tmp_path / "faults", "train_step:EIO:4").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match="train_step"):
        train_here(config)
    newest = latest_checkpoint(out)
    assert newest is not None
    assert newest.name == "step-00000002"
    assert train_here(config)
    unbroken = tmp_path / "unbroken"
    train_here(run_of(codes, unbroken, run={"logging_steps": 3}))
    assert curve_of(str(out)) == curve_of(str(unbroken))
    assert (
        contents(out / "last")["text_head.safetensors"]
        == contents(unbroken / "last")["text_head.safetensors"]
    )
    assert contents(out / "last")["gpt.safetensors"] == contents(alone / "last")["gpt.safetensors"]
    other = run_of(codes, out, both_ways=BothWaysFlags(image_to_text=0.4), run={"logging_steps": 3})
    assert code_of(lambda: train_here(other)) == 4, "another share is another run"


def test_a_model_that_paints_learns_to_caption_and_keeps_both(codes: Path, tmp_path: Path) -> None:
    geometry = dict.fromkeys(("n_layer", "n_head", "n_embd", "text_len"))
    paints, both, last = (tmp_path / name for name in ("paints", "both", "last"))
    train_here(run_of(codes, paints, both_ways=BothWaysFlags()))
    only_text = BothWaysFlags(image_to_text=1.0)
    start = {"pretrained_model_name_or_path": str(paints), "batch": 64} | geometry
    train_here(gpt_config(f"{codes},{codes}", both, both_ways=only_text, **start))
    lines = curve_of(str(both))
    assert [line for line in lines if "train_loss" in line] == []
    assert {"train_text_loss", "valid_loss", "valid_text_loss"} <= {name for line in lines for name in line}
    outcome = json.loads((both / "_run" / "outcome.json").read_text())
    assert (
        outcome["last_valid_loss"] == [line for line in lines if "valid_loss" in line][-1]["valid_text_loss"]
    )
    assert "nats a token of a caption" in (both / "last" / "README.md").read_text()
    train_here(
        gpt_config(f"{codes},{codes}", last, batch=64, **geometry, pretrained_model_name_or_path=str(both))
    )
    heads = [(path / "last" / "text_head.safetensors").read_bytes() for path in (both, last)]
    assert heads[0] == heads[1], "what is not trained stays"


def test_flags_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="--text-loss-weight 2: goes with --image-to-text"):
        BothWaysFlags(text_loss_weight=2)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="--image-to-text"):
            BothWaysFlags(image_to_text=share)
