"""Foreign VQGANs that are refused or need a word: each message says what is there and what to do next."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from painter_core.model_files.from_foreign import ConvertOptions
from painter_core.model_files.open import open_model
from tests.model_files.test_families import (
    CASES,
    CODEBOOK,
    State,
    averaged,
    converted,
    differing_codes,
    reference,
    save,
)

SMALL = ConvertOptions(image_size=32)
IBQ_YAML = """model:
  class_path: {}
  init_args:
    ddconfig: {{z_channels: 16, resolution: 32, ch: 32, ch_mult: [1, 1, 2], num_res_blocks: {},
      attn_resolutions: [8]}}
    n_embed: 64
    embed_dim: 8
    l2_normalize: {}
"""


def state_of(name: str) -> State:
    return dict(reference(CASES[name]).state)


def put(name: str, tensor: torch.Tensor | None = None) -> Callable[[State], object]:
    return lambda state: state.update({name: torch.ones(1) if tensor is None else tensor})


def drop(name: str) -> Callable[[State], object]:
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("taming", put("encoder.conv_blocks.0.res.0.norm1.bias"), "1 unexpected tensors: encoder.conv_b"),
        ("llamagen", put("encoder.down.0.block.0.norm1.bias"), "1 unexpected tensors: encoder.down.0"),
        ("llamagen", put("quantize.proj.weight"), "1 unexpected tensors: quantize.proj.weight; .* LlamaGen"),
        ("gumbel f8", put(CODEBOOK), "1 unexpected tensors: quantize.embedding.weight; .* Gumbel"),
        ("taming", put("quantize.used"), "1 unexpected tensors: quantize.used"),
        ("taming", put("quantize.embed.weight"), "1 unexpected tensors: quantize.embed.weight"),
        ("taming", put("encoder.down.0.block.0.temb_proj.bias"), "1 unexpected: encoder.down.0.block.0.temb"),
        ("diffusers", put("decoder.up_blocks.0.resnets.0.norm1.conv_y.bias"), "up.2.block.0.norm1.conv_y"),
        ("diffusers", drop("encoder.mid_block.attentions.0.to_q.bias"), "missing: encoder.mid.attn_1.q"),
        ("llamagen", drop("decoder.conv_blocks.0.upsample.conv.bias"), "missing: decoder.up.2.upsample"),
        ("llamagen", put(CODEBOOK, torch.zeros(64, 8)), "an entry of length 0"),
        ("taming", put(CODEBOOK, torch.ones(2**16 + 1, 8)), "codebook of 65,537 entries: .* 65,536 are"),
        ("taming", put("encoder.conv_in.bias", torch.ones(32, dtype=torch.int8)), "expected dense floats"),
        ("taming", put("_orig_mod.encoder.conv_in.bias"), "encoder.conv_in.bias stands there twice"),
    ],
)  # fmt: skip
def test_odd_names_are_said(
    tmp_path: Path, family: str, change: Callable[[State], object], message: str
) -> None:
    state = state_of(family)
    change(state)
    with pytest.raises(ValueError, match=message):
        converted(save(tmp_path / "v.pt", state), tmp_path / "out", SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["v.pt"]


def test_another_network_is_named_by_its_first_tensor(tmp_path: Path) -> None:
    file = save(tmp_path / "v.pt", {"blocks.0.attn.qkv.weight": torch.ones(2), "head.bias": torch.ones(2)})
    with pytest.raises(ValueError, match=r"the first of 2 tensors is blocks.0.attn.qkv.weight, and none is"):
        converted(file, tmp_path / "out", SMALL)


def test_a_codebook_of_65536_entries_is_the_largest(tmp_path: Path) -> None:
    state = state_of("taming") | {CODEBOOK: torch.rand(2**16, 8)}
    _, config, _ = converted(save(tmp_path / "v.pt", state), tmp_path / "out", SMALL)
    assert config.codebook_size == 2**16


def plain_ibq(path: Path) -> Path:
    """IBQ with its averaged weights stripped: nothing but the number of blocks is left of it."""
    return save(path / "v.ckpt", {"state_dict": state_of("ibq")})


def two_blocks_with_ema(path: Path) -> Path:
    state = state_of("taming")
    return save(path / "v.ckpt", {"state_dict": state | averaged(state)})


@pytest.mark.parametrize(
    ("write", "trait"), [(plain_ibq, "four residual blocks"), (two_blocks_with_ema, r"model_ema\.\*")]
)
def test_what_may_be_ibq_is_asked_about(tmp_path: Path, write: Callable[[Path], Path], trait: str) -> None:
    file = write(tmp_path)
    message = rf"may be IBQ or .*: {trait}.*--quantizer dot \(IBQ\) or nearest"
    with pytest.raises(ValueError, match=message):
        converted(file, tmp_path / "out", SMALL)
    with pytest.raises(ValueError, match=message):
        open_model(str(file))
    for form in ("nearest", "dot"):
        options = replace(SMALL, quantizer=form)
        _, config, report = converted(file, tmp_path / form, options)
        assert config.quantizer == form
        assert f"quantizer {form}: as --quantizer says" in report


@pytest.mark.parametrize(
    ("target", "form"),
    [
        ("src.IBQ.models.ibqgan.IBQ", "dot"),
        ("taming.models.vqgan.VQModel", "nearest"),
        ("ldm.models.autoencoder.VQModelInterface", "nearest"),
    ],
)
def test_the_yaml_decides(tmp_path: Path, target: str, form: str) -> None:
    file = plain_ibq(tmp_path)
    (tmp_path / "v.yaml").write_text(IBQ_YAML.format(target, 4, False))
    model, config, report = converted(file, tmp_path / "out", ConvertOptions())
    assert config.quantizer == form
    assert f"quantizer {form}: v.yaml names {target}" in report
    if form == "dot":
        assert differing_codes(model, reference(CASES["ibq"]), CASES["ibq"]) == 0


@pytest.mark.parametrize(
    ("yaml", "options", "message"),
    [
        (IBQ_YAML.format("src.IBQ.models.ibqgan.IBQ", 4, False), replace(SMALL, quantizer="nearest"),
         "quantizer dot: v.yaml names src.IBQ.models.ibqgan.IBQ; but nearest: as --quantizer says"),
        (IBQ_YAML.format("src.IBQ.models.ibqgan.IBQ", 3, False), SMALL, "num_res_blocks is 3, the tensors"),
        (IBQ_YAML.format("src.IBQ.models.ibqgan.IBQ", 4, True), SMALL, "l2_normalize or remap is set"),
        (IBQ_YAML.format("taming.models.vqgan.GumbelVQ", 4, False), SMALL, "no quantize.proj.weight"),
        (IBQ_YAML.format("src.somewhere.Else", 4, False), SMALL, "may be IBQ"),
    ],
)  # fmt: skip
def test_contradictions(tmp_path: Path, yaml: str, options: ConvertOptions, message: str) -> None:
    file = plain_ibq(tmp_path)
    (tmp_path / "v.yaml").write_text(yaml)
    with pytest.raises(ValueError, match=message):
        converted(file, tmp_path / "out", options)


@pytest.mark.parametrize(
    ("family", "form", "message"),
    [
        ("llamagen", "nearest", "quantizer dot: as in all models of LlamaGen.*; but nearest: as --quantizer"),
        ("gumbel f8", "dot", "quantizer projected: .*; but dot: as --quantizer says"),
        ("diffusers", "dot", "quantizer nearest: .*; but dot"),
    ],
)
def test_a_flag_against_the_names(tmp_path: Path, family: str, form: str, message: str) -> None:
    file = save(tmp_path / "v.pt", state_of(family))
    with pytest.raises(ValueError, match=message):
        converted(file, tmp_path / "out", replace(SMALL, quantizer=form))


def without_one(state: State) -> State:
    state.pop("model_ema.encoderconv_inweight")
    return state


def misshapen(state: State) -> State:
    return state | {"model_ema.encoderconv_inbias": torch.ones(31)}


def surplus(state: State) -> State:
    return state | {"model_ema.something": torch.ones(1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_one, "1 are missing, encoder.conv_in.weight the first; .* --no-ema"),
        (misshapen, r"encoderconv_inbias \[31\] is not the average of encoder.conv_in.bias \[32\]"),
        (surplus, "1 unexpected tensors: model_ema.something"),
    ],
)
def test_averaged_weights_that_do_not_fit(
    tmp_path: Path, change: Callable[[State], State], message: str
) -> None:
    state = state_of("ibq")
    file = save(tmp_path / "v.ckpt", {"state_dict": state | change(averaged(state))})
    with pytest.raises(ValueError, match=message):
        converted(file, tmp_path / "out", SMALL)
    converted(file, tmp_path / "plain", replace(SMALL, no_ema=True))


def test_no_ema_without_averaged_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--no-ema: there are no averaged weights"):
        converted(save(tmp_path / "v.pt", state_of("taming")), tmp_path / "out", replace(SMALL, no_ema=True))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"norm_type": "spatial"}, "norm_type 'spatial', not 'group'"),
        ({"mid_block_add_attention": False}, "mid_block_add_attention False, not True"),
        ({"norm_num_groups": 16}, "norm_num_groups 16, not 32"),
    ],
)
def test_diffusers_models_of_another_kind(tmp_path: Path, spec: dict, said: str) -> None:
    source = CASES["diffusers"].write(tmp_path, state_of("diffusers"))
    (source / "config.json").write_text(json.dumps({"_class_name": "VQModel", **spec}))
    with pytest.raises(ValueError, match=f"a VQModel with {said}"):
        open_model(str(source))
