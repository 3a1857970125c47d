"""A user's Chinese CLIP: transformers' directory, and cn_clip's .pt converted into one."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from painter_core.model_files.chinese_clip import open_clip, read_config
from painter_core.model_files.from_cn_clip import _geometry, is_cn_clip, to_transformers
from painter_core.models.chinese_clip import TEXT_LEN
from painter_core.stages.convert_checkpoint import ConvertConfig, convert
from tests.golden.make_evaluation import clip_inputs
from tests.support.judges import TINY_CLIP, clip_state, clip_vocab, write_clip


def cn_clip_state() -> dict[str, Tensor]:
    """The tiny CLIP's weights under cn_clip's names, in half precision, as its .pt files hold them."""
    found: dict[str, Tensor] = {}
    ours = clip_state()
    for name, tensor in ours.items():
        if name in ("text_projection.weight", "visual_projection.weight"):
            found["text_projection" if name[0] == "t" else "visual.proj"] = tensor.T.contiguous()
        elif name.startswith("text_model."):
            found["bert." + name.removeprefix("text_model.")] = tensor
        elif ".self_attn." in name and "out_proj" not in name:
            continue  # fused below
        else:
            found[vision_name(name)] = tensor
    for layer in range(TINY_CLIP.vision.num_hidden_layers):
        for kind in ("weight", "bias"):
            parts = [ours[f"vision_model.encoder.layers.{layer}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
            found[f"visual.transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(parts)
    return {f"module.{name}": tensor.half() for name, tensor in found.items()}


def vision_name(name: str) -> str:
    """cn_clip's name of a tensor of the picture tower, written out apart from the converter's tables."""
    for ours, theirs in (
        ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("vision_model.pre_layrnorm.", "visual.ln_pre."),
        ("vision_model.post_layernorm.", "visual.ln_post."),
        ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
        ("self_attn.out_proj", "attn.out_proj"),
        ("layer_norm", "ln_"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
    ):
        name = name.replace(ours, theirs)
    return name


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """clip_cn_tiny.pt, with what training leaves beside the weights."""
    state = cn_clip_state() | {"module.bert.pooler.dense.weight": torch.zeros(64, 64).half()}
    torch.save({"epoch": 15, "name": "pretrain", "state_dict": state}, tmp_path / "clip_cn_tiny.pt")
    (tmp_path / "vocab.txt").write_text(clip_vocab(), encoding="utf-8")
    return tmp_path / "clip_cn_tiny.pt"


def vectors(path: Path) -> tuple[np.ndarray, np.ndarray]:
    model, (pictures, ids) = open_clip(str(path)).load(), clip_inputs()
    images = model.embed_images(torch.from_numpy(pictures))
    return images.numpy(), model.embed_texts(torch.from_numpy(ids)).numpy()


def test_directory_is_read_with_its_geometry(directory: Path) -> None:
    found = open_clip(str(directory))
    assert found.config == TINY_CLIP
    assert found.load_tokenizer().vocab_size == TINY_CLIP.vocab_size
    assert len(found.sha256()) == 64


def test_older_files_are_read(directory: Path) -> None:
    """pytorch_model.bin in half precision, with the position_ids that older releases stored."""
    wanted, state = vectors(directory), load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    state |= {"text_model.embeddings.position_ids": torch.arange(64)[None]}
    torch.save(
        {n: t.half() if t.is_floating_point() else t for n, t in state.items()},
        directory / "pytorch_model.bin",
    )
    for found, like in zip(vectors(directory), wanted, strict=True):
        np.testing.assert_allclose(found, like, rtol=0, atol=2e-3)


def test_what_config_leaves_out_is_transformers_default(directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps({"model_type": "chinese_clip"}))
    found = read_config(directory / "config.json")
    assert (found.vocab_size, found.image_size, found.patch_size) == (30522, 224, 32)
    assert (found.vision.hidden_act, found.text.hidden_act) == ("quick_gelu", "gelu")
    assert (found.vision.layer_norm_eps, found.text.layer_norm_eps) == (1e-5, 1e-12)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("", "model_type", "clip", "model_type is 'clip', expected 'chinese_clip'"),
        ("", "projection_dim", "24", "projection_dim is '24'"),
        ("text_config", "hidden_act", "relu", "text_config.hidden_act is 'relu'"),
        ("text_config", "position_embedding_type", "relative_key", "only 'absolute' is supported"),
        ("text_config", "hidden_size", 65.0, "hidden_size is 65.0, expected a int"),
        ("vision_config", "num_attention_heads", 3, "a multiple of its 3 heads"),
        ("vision_config", "num_channels", 4, "only 3 is supported"),
        ("vision_config", "patch_size", 0, "patch_size: got 0"),
        ("text_config", "max_position_embeddings", TEXT_LEN - 1, "max_position_embeddings: got 51"),
        ("text_config", "vocab_size", 61, r"tensors do not fit config\.json.*word_embeddings"),
        ("vision_config", "num_hidden_layers", 3, "missing: vision_model.encoder.layers.2"),
    ],
)
def test_a_directory_that_does_not_fit_is_refused(
    section: str, key: str, value: object, message: str, directory: Path
) -> None:
    spec = json.loads((directory / "config.json").read_text())
    (spec[section] if section else spec)[key] = value
    (directory / "config.json").write_text(json.dumps(spec))
    with pytest.raises(ValueError, match=message):
        open_clip(str(directory)).load()


def test_other_places_are_refused(directory: Path, tmp_path: Path) -> None:
    (directory / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    with pytest.raises(ValueError, match=r"4 tokens, but config.json says text_config\.vocab_size 60"):
        open_clip(str(directory)).load_tokenizer()
    (directory / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors and no pytorch_model\.bin"):
        open_clip(str(directory))
    with pytest.raises(ValueError, match=r"no config\.json there"):
        open_clip(str(tmp_path / "gone"))


def test_a_checkpoint_of_cn_clip_converted_gives_the_same_vectors(
    checkpoint: Path, directory: Path, tmp_path: Path
) -> None:
    vocab = str(checkpoint.parent / "vocab.txt")
    config = ConvertConfig(source=str(checkpoint), outputs=str(tmp_path / "out"))
    report = convert(with_options(config, vocab=vocab))
    found = open_clip(str(tmp_path / "out"))
    assert found.config == TINY_CLIP
    # the same weights in half precision, under transformers' names
    state = {
        name: tensor.half().float() for name, tensor in load_file(directory / "model.safetensors").items()
    }
    save_file(state, directory / "model.safetensors")
    for ours, theirs in zip(vectors(tmp_path / "out"), vectors(directory), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "left out: 1 of bert.pooler" in report[0]
    assert "2 in the picture tower, 1 in the text tower (assumed" in report[1]
    assert "sha256" in (tmp_path / "out" / "README.md").read_text()


def with_options(config: ConvertConfig, **options: object) -> ConvertConfig:
    return dataclasses.replace(config, options=dataclasses.replace(config.options, **options))  # type: ignore[arg-type]


def test_heads_of_the_widest_tower_are_80_wide(checkpoint: Path, tmp_path: Path) -> None:
    """ViT-H/14: 1280 channels in 16 heads; all others are 64 wide."""
    state = {name.removeprefix("module."): t for name, t in cn_clip_state().items()}
    assert _geometry(checkpoint, state).vision.num_attention_heads == 2
    state["visual.conv1.weight"] = torch.zeros(1280, 3, 8, 8)
    assert _geometry(checkpoint, state).vision.num_attention_heads == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("module.bert.embeddings.LayerNorm.bias"),
            "1 missing: text_model.embeddings.LayerNorm.bias",
        ),
        (lambda s: s.pop("module.visual.proj"), "1 missing: visual_projection.weight"),
        (
            lambda s: s.pop("module.bert.embeddings.word_embeddings.weight"),
            "word_embeddings.weight is missing",
        ),
        (lambda s: s.update({"module.visual.extra": torch.zeros(1)}), "unexpected tensor visual.extra"),
        (lambda s: s.update({"module.visual.layer1.0.conv1.weight": torch.zeros(1)}), "a ResNet"),
        (
            lambda s: s.update({"module.logit_scale": torch.tensor(torch.inf)}),
            "logit_scale holds something else",
        ),
    ],
)
def test_another_checkpoint_is_refused_by_name(
    change, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    state = cn_clip_state()
    change(state)
    torch.save({"state_dict": state}, checkpoint)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=message):
        to_transformers(checkpoint, tmp_path / "out", str(checkpoint.parent / "vocab.txt"))


def test_a_checkpoint_is_not_taken_for_a_directory(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"convert_checkpoint\.py --source .*clip_cn_tiny\.pt --vocab"):
        open_clip(str(checkpoint))
    with pytest.raises(ValueError, match=r"--vocab: clip_cn_tiny\.pt holds no vocabulary"):
        convert(ConvertConfig(source=str(checkpoint), outputs=str(tmp_path / "out")))
    (checkpoint.parent / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    with pytest.raises(ValueError, match="2 tokens, but the tensors say 60"):
        to_transformers(checkpoint, tmp_path, str(checkpoint.parent / "vocab.txt"))
    config = ConvertConfig(source=str(checkpoint), outputs=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="--text-len: mean nothing for a Chinese CLIP"):
        convert(with_options(config, text_len=32))


def test_only_cn_clips_names_are_taken_for_it(checkpoint: Path, tmp_path: Path) -> None:
    assert is_cn_clip(checkpoint)
    torch.save({"state_dict": {"encoder.conv_in.weight": torch.zeros(1)}}, tmp_path / "taming.ckpt")
    assert not is_cn_clip(tmp_path / "taming.ckpt")
    assert not is_cn_clip(tmp_path)
