"""--freeze, --layer-decay and --lora-rank: what is trained, how fast, and runs that are broken off."""

import logging
from pathlib import Path

import pytest
import torch

from painter_core.model_files.adapter import FILE, with_adapter
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT
from painter_core.stages.convert_checkpoint import ConvertConfig, convert
from painter_core.training.both_ways import BothWaysFlags
from painter_core.training.fine_tuning import FineTuningFlags, check_freeze, choose_trained
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import MUON_RATE, make_optimizers
from painter_core.training.regularisation import RegularisationFlags
from tests.support.local_run import faults
from tests.support.training import SMALL, curve_of, files_of, gpt_config, train_here
from tests.training.test_sharding import close_to, train_ranks, weights_close
from tests.training.test_training import TINY, config

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

STEPS = 10  # two epochs of the 160 rows
FROM_START = dict.fromkeys(SMALL, None)
LORA = FineTuningFlags(lora_rank=2)


@pytest.fixture(scope="module")
def base(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of some steps."""
    out = tmp_path_factory.mktemp("base") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAINTER_CACHE", str(out.parent / "cache"))
        train_here(gpt_config(codes, out))
    return out / "last"


def tuned(codes: Path, base: Path, out: Path, flags: FineTuningFlags, **more: object) -> TrainConfig:
    settings = FROM_START | {"epoch_num": 2.0, "learning_rate": 1e-2} | more
    return gpt_config(
        f"{codes},{codes}", out, pretrained_model_name_or_path=str(base), fine_tuning=flags, **settings
    )


def models(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in files_of(str(root)).items() if name.startswith(("best/", "last/"))}


FROZEN = FineTuningFlags(freeze="tok_emb,blocks.0", layer_decay=0.5)


@pytest.mark.parametrize(
    ("flags", "ema_decay"), [(LORA, 0.0), (LORA, 0.9), (FROZEN, 0.0)], ids=["adapters", "averaged", "frozen"]
)
def test_a_broken_run_goes_on_to_the_same_bytes(
    flags: FineTuningFlags,
    ema_decay: float,
    codes: Path,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = {"regularisation": RegularisationFlags(ema_decay=ema_decay, dropout=0.1)}
    train_here(tuned(codes, base, tmp_path / "alone", flags, **more))
    for name, value in faults(tmp_path / "faults", "train_step:EIO:7").items():
        monkeypatch.setenv(name, value)
    settings = tuned(codes, base, tmp_path / "model", flags, **more)
    with pytest.raises(OSError, match="train_step"):
        train_here(settings)
    monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "0")
    assert train_here(settings)
    assert curve_of(str(tmp_path / "model")) == curve_of(str(tmp_path / "alone"))
    assert models(tmp_path / "model") == models(tmp_path / "alone")


def test_what_is_frozen_stays_and_the_rest_learns(codes: Path, base: Path, tmp_path: Path) -> None:
    train_here(tuned(codes, base, tmp_path / "model", FineTuningFlags(freeze="tok_emb,blocks.0,head")))
    before, after = (open_model(str(p)).load_gpt().state_dict() for p in (base, tmp_path / "model" / "last"))
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert same == {name for name in before if name.startswith(("tok_emb.", "blocks.0.", "head."))}


def test_adapters_are_merged_and_stand_beside(codes: Path, base: Path, tmp_path: Path) -> None:
    train_here(tuned(codes, base, tmp_path / "model", LORA))
    lines = curve_of(str(tmp_path / "model"))
    losses = [line["train_loss"] for line in lines if "train_loss" in line]
    assert losses[-1] < losses[0]
    last = tmp_path / "model" / "last"
    before, after = open_model(str(base)).load_gpt(), open_model(str(last)).load_gpt()
    changed = {n for n, v in before.state_dict().items() if not torch.equal(v, after.state_dict()[n])}
    blocks = before.blocks.named_parameters(prefix="blocks")
    assert changed == {n for n, p in blocks if p.ndim == 2 and "key" not in n}
    found = with_adapter(open_model(str(base)), last / FILE)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), after.parameters(), strict=True))
    assert (last / FILE).stat().st_size < 0.5 * (last / "gpt.safetensors").stat().st_size
    with pytest.raises(ValueError, match="was trained on a base with sha256"):
        with_adapter(open_model(str(last)), last / FILE)
    with pytest.raises(ValueError, match="no adapter; expected"):
        with_adapter(open_model(str(base)), last / "gpt.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("flags", [LORA, FineTuningFlags(freeze="tok_emb")])
def test_two_workers_learn_what_one_does(
    flags: FineTuningFlags, codes: Path, base: Path, tmp_path: Path
) -> None:
    train_here(tuned(codes, base, tmp_path / "alone", flags))
    train_ranks(
        tuned(codes, base, tmp_path / "model", flags, batch=16, gradient_accumulation_steps=2), 2, tmp_path
    )
    close_to(tmp_path / "model", tmp_path / "alone", steps=STEPS)
    weights_close(tmp_path / "model", tmp_path / "alone")


def test_layers_learn_at_rates_of_their_own() -> None:
    flags = FineTuningFlags(layer_decay=0.5)
    rates = {name: flags.rate(name, TINY.n_layer) for name, _ in GPT(TINY).named_parameters()}
    assert {rates[n] for n in rates if n.startswith(("head.", "ln_f."))} == {1.0}
    assert {rates[n] for n in rates if n.startswith("blocks.1.")} == {1.0}
    assert {rates[n] for n in rates if n.startswith("blocks.0.")} == {0.5}
    assert (rates["tok_emb.weight"], rates["pos_emb"]) == (0.25, 0.25)
    settings = TrainConfig(tables="-", checkpoint_dir="-", optimizer="muon", fine_tuning=flags)
    model = GPT(TINY)
    muon, adamw = make_optimizers(model, settings)
    assert [g["rate"] for g in muon.param_groups] == [0.5 * MUON_RATE, MUON_RATE]
    taken = [p for o in (muon, adamw) for g in o.param_groups for p in g["params"]]
    assert len(taken) == len({id(p) for p in taken}) == len(list(model.parameters()))
    assert {g["rate"] for g in adamw.param_groups} == {0.25, 0.5, 1.0}
    assert [len(o.param_groups) for o in make_optimizers(model, config("muon"))] == [1, 2], "as ever"


def test_frozen_weights_are_no_optimizers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model = GPT(TINY)
    flags = FineTuningFlags(freeze="tok_emb,pos_emb")
    choose_trained(model, flags, seed=1)
    (adamw,) = make_optimizers(model, config("adamw"))
    taken = {id(p) for g in adamw.param_groups for p in g["params"]}
    assert taken == {id(p) for n, p in model.named_parameters() if not n.startswith(("tok_emb", "pos_emb"))}
    frozen = model.tok_emb.weight.numel() + model.pos_emb.numel()
    assert f"{frozen:,} stay" in caplog.text


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("blocks.2", "--freeze 'blocks.2': no weight's name begins so; .*blocks.0 to blocks.1"),
        ("tok", "--freeze 'tok': no weight's name begins so"),
        ("tok_emb,pos_emb,blocks,ln_f,head", "leaves nothing to train"),
    ],
)
def test_names_that_do_not_fit_are_refused(freeze: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_freeze(FineTuningFlags(freeze=freeze), TINY)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "--lora-rank 2: adapters stand beside a trained model"),
        (
            {"pretrained_model_name_or_path": "m", "optimizer": "muon"},
            "--optimizer muon: not with",
        ),
        ({"pretrained_model_name_or_path": "m", "parallel": "fsdp"}, "--parallel fsdp: not with"),
        (
            {"pretrained_model_name_or_path": "m", "both_ways": BothWaysFlags(image_to_text=0.5)},
            "--image-to-text 0.5: not with --lora-rank",
        ),
    ],
)
def test_adapters_that_cannot_be_are_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(tables="-", checkpoint_dir="-", fine_tuning=LORA, **given)
    with pytest.raises(ValueError, match="--freeze head: does nothing beside --lora-rank"):
        FineTuningFlags(lora_rank=2, freeze="head")


def test_an_adapter_is_merged_into_its_base_by_the_converter(codes: Path, base: Path, tmp_path: Path) -> None:
    train_here(tuned(codes, base, tmp_path / "model", LORA))
    last = tmp_path / "model" / "last"
    source = {"source": str(base), "adapter": str(last / FILE)}
    assert "rank 2" in convert(ConvertConfig(outputs=str(tmp_path / "merged"), **source))[0]
    assert open_model(str(tmp_path / "merged")).gpt_sha256() == open_model(str(last)).gpt_sha256()
    with pytest.raises(ValueError, match="--to: does nothing beside --adapter"):
        ConvertConfig(outputs=str(tmp_path / "other"), to="easynlp", **source)
