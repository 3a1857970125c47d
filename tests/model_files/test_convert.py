"""EasyNLP's checkpoints: what is mapped, what is refused with which words; nothing changes on the way."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from painter_core.files.storage import file_sha256
from painter_core.model_files.from_foreign import ConvertOptions
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN
from painter_core.stages.convert_checkpoint import ConvertConfig, convert
from tests.support.foreign import (
    GPT_TINY,
    VQGAN_TINY,
    converted,
    easynlp_config,
    easynlp_state,
    formula_state,
    same,
    write_easynlp,
)


def test_easynlp_there_and_back(tmp_path: Path) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    report = converted(source, tmp_path / "ours")
    model = open_model(str(tmp_path / "ours"))
    assert (model.vqgan_config, model.gpt_config) == (VQGAN_TINY, GPT_TINY)
    same(load_file(tmp_path / "ours" / "vqgan.safetensors"), formula_state(VQGAN, VQGAN_TINY))
    same(load_file(tmp_path / "ours" / "gpt.safetensors"), formula_state(GPT, GPT_TINY))
    text = "\n".join(report)
    assert "2 attention masks" in text
    assert "1 of loss.*" in text
    assert "text_len 8: 72 positions less 64 codes" in text
    convert(ConvertConfig(source=str(tmp_path / "ours"), outputs=str(tmp_path / "back"), to="easynlp"))
    before = torch.load(source / "pytorch_model.bin", weights_only=True)
    after = torch.load(tmp_path / "back" / "pytorch_model.bin", weights_only=True)
    del before["first_stage_model.loss.discriminator.main.0.weight"]
    same(after, before)
    assert (tmp_path / "back" / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()
    again = converted(tmp_path / "back", tmp_path / "ours2")
    assert again[0].startswith("pytorch_model.bin: ")
    for name in ("config.json", "vqgan.safetensors", "gpt.safetensors", "vocab.txt"):
        assert file_sha256(tmp_path / "ours" / name) == file_sha256(tmp_path / "ours2" / name)


def test_easynlp_writes_the_state_dict_in_its_own_order(tmp_path: Path) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    converted(source, tmp_path / "ours")
    convert(ConvertConfig(source=str(tmp_path / "ours"), outputs=str(tmp_path / "back"), to="easynlp"))
    names = list(torch.load(tmp_path / "back" / "pytorch_model.bin", weights_only=True))
    assert names[0] == "first_stage_model.encoder.conv_in.weight"
    at = names.index("transformer.blocks.0.attn.mask")
    assert names[at + 1] == "transformer.blocks.0.attn.key.weight"
    assert names[-1] == "transformer.head.weight"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_are_cast_and_reported(tmp_path: Path, dtype: torch.dtype) -> None:
    state = easynlp_state()
    state = {k: t.to(dtype) for k, t in state.items()}
    report = converted(write_easynlp(tmp_path / "easynlp", state=state), tmp_path / "ours")
    kind = str(dtype).removeprefix("torch.")
    assert any(f"cast from {kind} to float32" in line for line in report)
    name = "head.weight"
    actual = load_file(tmp_path / "ours" / "gpt.safetensors")[name]
    assert actual.dtype == torch.float32
    assert torch.equal(actual, state[f"transformer.{name}"].float())


def test_module_prefix_and_missing_masks_are_fine(tmp_path: Path) -> None:
    state = {f"module.{k}": t for k, t in easynlp_state().items() if not k.endswith("mask")}
    converted(write_easynlp(tmp_path / "a", state=state), tmp_path / "ours")
    converted(write_easynlp(tmp_path / "b"), tmp_path / "ours2")
    for name in ("vqgan.safetensors", "gpt.safetensors"):
        assert file_sha256(tmp_path / "ours" / name) == file_sha256(tmp_path / "ours2" / name)


def without(name: str) -> Callable[[dict], None]:
    return lambda state: state.pop(name)


def unmasked(state: dict) -> None:
    state["transformer.blocks.1.attn.mask"][..., :8, :8] = 1


def put(name: str, value: object) -> Callable[[dict], None]:
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("transformer.blocks.1.ln2.bias"), "1 missing: blocks.1.ln2.bias"),
        (without("transformer.pos_emb"), "pos_emb is missing"),
        (without("first_stage_model.quantize.embedding.weight"), "quantize.embedding.weight is missing"),
        (without("first_stage_model.decoder.up.2.attn.0.q.weight"), "missing: decoder.up.2.attn.0.q.weight"),
        (put("transformer.blocks.7.ln2.bias", torch.ones(32)), "1 unexpected: blocks.7.ln2.bias"),
        (put("cond_stage_model.x", torch.ones(1)), "1 unexpected tensors: cond_stage_model.x"),
        (put("transformer.ln_f.bias", torch.ones(31)), r"1 misshapen: ln_f.bias \[31\] for \[32\]"),
        (put("transformer.ent_emb.weight", torch.ones(32, 100)), "knowledge-enhanced"),
        (put("transformer.ln_f.bias", torch.full((32,), torch.nan)), "not finite"),
        (put("transformer.ln_f.bias", torch.ones(32, dtype=torch.int64)), "expected dense floats"),
        (put("epoch", 3), "1 entries are no tensors: epoch"),
        (put("module.transformer.ln_f.bias", torch.ones(32)), "ln_f.bias stands there twice"),
        (put("transformer.ln_f.bias", torch.ones(1).expand(10**9)), "claims"),
        (unmasked, "no causal mask"),
    ],
)
def test_bad_tensors_are_named(tmp_path: Path, change: Callable[[dict], None], message: str) -> None:
    state = easynlp_state()
    change(state)
    with pytest.raises(ValueError, match=message):
        converted(write_easynlp(tmp_path / "easynlp", state=state), tmp_path / "ours")
    assert [p.name for p in tmp_path.iterdir()] == ["easynlp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"n_layer": 12, "n_embd": 768},
            "n_layer is 12, the tensors say 2; n_embd is 768, the tensors say 32",
        ),
        ({"vocab_size": 37512}, "vocab_size is 37512, the tensors say 364"),
        ({"img_vocab_size": 16384}, "img_vocab_size is 16384, the tensors say 64"),
        ({"n_unmasked": 32}, "n_unmasked is 32"),
        ({"model_type": "bert"}, "expected 'artist'"),
        ({"n_head": 3}, "multiple of n_head 3"),
        ({"n_head": "2"}, "expected a number"),
    ],
)
def test_config_is_compared_with_the_tensors(tmp_path: Path, change: dict, message: str) -> None:
    source = write_easynlp(tmp_path / "easynlp", config=easynlp_config() | change)
    with pytest.raises(ValueError, match=message):
        converted(source, tmp_path / "ours")


def test_what_tensors_cannot_tell(tmp_path: Path) -> None:
    config = easynlp_config()
    del config["n_head"]
    source = write_easynlp(tmp_path / "easynlp", config=config)
    with pytest.raises(ValueError, match=r"72 positions: the 4096 codes .* 256 pixels .*--image-size"):
        converted(source, tmp_path / "a", ConvertOptions())
    report = converted(source, tmp_path / "b", ConvertOptions(text_len=8, n_head=2))
    assert open_model(str(tmp_path / "b")).gpt_config == GPT_TINY
    assert not any("default" in line for line in report)
    with pytest.raises(ValueError, match="n_head 12"):
        converted(source, tmp_path / "c")  # the default, which does not divide this model's width
    source = write_easynlp(tmp_path / "easynlp2")
    with pytest.raises(ValueError, match=r"--n-head 4: config.json says n_head 2"):
        converted(source, tmp_path / "c", ConvertOptions(image_size=32, n_head=4))


def test_vocab_and_vqgan_from_elsewhere(tmp_path: Path) -> None:
    state = {k: t for k, t in easynlp_state().items() if k.startswith("transformer.")}
    source = write_easynlp(tmp_path / "easynlp", state=state, vocab=None)
    with pytest.raises(ValueError, match="holds no VQGAN"):
        converted(source, tmp_path / "ours", ConvertOptions())
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "vqgan.bin")
    converted(tmp_path / "vqgan.bin", tmp_path / "vqgan")
    vqgan = str(tmp_path / "vqgan")
    with pytest.raises(ValueError, match=r"has no vocab\.txt"):
        converted(source, tmp_path / "ours", ConvertOptions(), vqgan)
    other = write_easynlp(tmp_path / "other", gpt=GPTConfig(**{**vars(GPT_TINY), "text_vocab_size": 301}))
    with pytest.raises(ValueError, match="301 tokens, but the tensors say 300"):
        converted(source, tmp_path / "ours", ConvertOptions(vocab=str(other / "vocab.txt")), vqgan)
    full = write_easynlp(tmp_path / "full")
    converted(source, tmp_path / "ours", ConvertOptions(vocab=str(full / "vocab.txt")), vqgan)
    converted(full, tmp_path / "ours2")
    for name in ("config.json", "vqgan.safetensors", "gpt.safetensors"):
        assert file_sha256(tmp_path / "ours" / name) == file_sha256(tmp_path / "ours2" / name)


def test_cased_tokenizer_is_refused(tmp_path: Path) -> None:
    source = write_easynlp(tmp_path / "easynlp")
    (source / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(ValueError, match="do_lower_case is false"):
        converted(source, tmp_path / "ours")
