"""A .pt of cn_clip (Chinese CLIP's own code) -> a directory that transformers and painter open.

The file holds {"state_dict": {...}} in half precision, names with or without `module.`. Every tensor is
mapped, named as left out, or an error. Geometry is read from the tensors; the sizes of the heads, which no
tensor shows, are those of all published models: 64, and 80 in a picture tower of width 1280 (ViT-H/14).
"""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from painter_core.files.storage import file_sha256
from painter_core.model_files.chinese_clip import MODEL_TYPE, WEIGHTS
from painter_core.model_files.safetensors_file import compare_tensors
from painter_core.model_files.weights_file import check_finite, read_weights
from painter_core.models.chinese_clip import ChineseCLIP, ChineseCLIPConfig, TowerConfig
from painter_core.models.unfilled import unfilled
from painter_core.text.tokenizer import load_tokenizer

POOLER = "bert.pooler."  # BERT's own head, of no part in CLIP
RESNET = "visual.layer1.0.conv1.weight"
NAMES = {
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
    "logit_scale": "logit_scale",
}
TRANSPOSED = ("text_projection", "visual.proj")
PREFIXES = {
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "bert.": "text_model.",
}
BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.(.+)\.(\w+)")
IN_BLOCK = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}  # fmt: skip


def is_cn_clip(source: Path) -> bool:
    """Whether a file holds what cn_clip's do.

    Raises:
        ValueError: it is damaged.
    """
    if source.suffix != ".pt" or not source.is_file():
        return False  # cn_clip names all its files so, and other files may be large
    names = {name.removeprefix("module.") for name in read_weights(source)}
    return {"visual.conv1.weight", "text_projection"} <= names


def to_transformers(source: Path, target: Path, vocab: str | None) -> list[str]:
    """Converts a file.

    Args:
        source: cn_clip's .pt.
        target: an empty directory; not written atomically.
        vocab: BERT's vocab.txt, which the file lacks.

    Returns:
        Lines that say what was mapped, left out and assumed.

    Raises:
        ValueError: lists what is missing, unexpected or misshapen.
    """
    if vocab is None:
        raise ValueError(f"--vocab: {source.name} holds no vocabulary; give BERT's Chinese vocab.txt")
    given = {name.removeprefix("module."): tensor for name, tensor in read_weights(source).items()}
    check_finite(str(source), given)
    if RESNET in given:
        raise ValueError(f"{source}: its picture tower is a ResNet (RN50); only Vision Transformers are read")
    state = {
        name: part.float().contiguous() for old, t in given.items() for name, part in _renamed(source, old, t)
    }
    config = _geometry(source, given)
    expected = {k: list(t.shape) for k, t in unfilled(ChineseCLIP, config).state_dict().items()}
    compare_tensors(str(source), {k: list(t.shape) for k, t in state.items()}, expected, geometry=str(config))
    tokenizer = load_tokenizer(vocab)
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"--vocab {vocab}: {tokenizer.vocab_size} tokens, but the tensors say {config.vocab_size}"
        )
    left_out = sum(name.startswith(POOLER) for name in given)
    report = [
        f"{source.name}: {len(state)} tensors of a Chinese CLIP mapped; left out: {left_out} of bert.pooler",
        f"heads: {config.vision.num_attention_heads} in the picture tower, "
        f"{config.text.num_attention_heads} in the text tower (assumed: no tensor shows it)",
        str(config),
    ]
    save_file(state, target / WEIGHTS[0], metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps(_config_json(config), indent=1) + "\n")
    tokenizer.save(target)
    lines = [f"- {source.name}: sha256 {file_sha256(source)}", *(f"- {line}" for line in report)]
    (target / "README.md").write_text("\n".join(["# Converted Chinese CLIP", "", *lines, ""]))
    return report


def _renamed(source: Path, name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """A tensor under its new name; three of the fused query, key and value; none of what is left out."""
    if name.startswith(POOLER) or name.endswith(".position_ids"):
        return []
    if name in NAMES:
        return [(NAMES[name], tensor.T if name in TRANSPOSED else tensor)]
    if found := BLOCK.fullmatch(name):
        layer, part, kind = found.groups()
        place = f"vision_model.encoder.layers.{layer}"
        if part in IN_BLOCK:
            return [(f"{place}.{IN_BLOCK[part]}.{kind}", tensor)]
        if part == "attn" and kind in ("in_proj_weight", "in_proj_bias"):
            parts = zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True)
            return [(f"{place}.self_attn.{n}.{kind.removeprefix('in_proj_')}", t) for n, t in parts]
    for old, new in PREFIXES.items():
        if name.startswith(old):
            return [(new + name.removeprefix(old), tensor)]
    raise ValueError(f"{source}: unexpected tensor {name}; this is no cn_clip with a Vision Transformer")


def _geometry(source: Path, given: dict[str, Tensor]) -> ChineseCLIPConfig:
    try:
        width, _, patch, _ = given["visual.conv1.weight"].shape
        grid = math.isqrt(len(given["visual.positional_embedding"]) - 1)
        words = given["bert.embeddings.word_embeddings.weight"]
        return ChineseCLIPConfig(
            vision=TowerConfig(
                hidden_size=width,
                intermediate_size=len(given["visual.transformer.resblocks.0.mlp.c_fc.weight"]),
                num_hidden_layers=_layers(given, "visual.transformer.resblocks."),
                num_attention_heads=width // (80 if width == 1280 else 64),
                hidden_act="quick_gelu",
                layer_norm_eps=1e-5,
            ),
            text=TowerConfig(
                hidden_size=words.shape[1],
                intermediate_size=len(given["bert.encoder.layer.0.intermediate.dense.weight"]),
                num_hidden_layers=_layers(given, "bert.encoder.layer."),
                num_attention_heads=words.shape[1] // 64,
                hidden_act="gelu",
                layer_norm_eps=1e-12,
            ),
            image_size=grid * patch,
            patch_size=patch,
            vocab_size=len(words),
            max_position_embeddings=len(given["bert.embeddings.position_embeddings.weight"]),
            type_vocab_size=len(given["bert.embeddings.token_type_embeddings.weight"]),
            projection_dim=given["text_projection"].shape[1],
        )
    except KeyError as error:
        raise ValueError(f"{source}: {error.args[0]} is missing; this is no cn_clip") from None


def _layers(given: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(n.removeprefix(prefix).split(".")[0]) for n in given if n.startswith(prefix))


def _config_json(config: ChineseCLIPConfig) -> dict[str, Any]:
    text, vision = (dataclasses.asdict(tower) for tower in (config.text, config.vision))
    for name in ("vocab_size", "max_position_embeddings", "type_vocab_size"):
        text[name] = getattr(config, name)
    for name in ("image_size", "patch_size"):
        vision[name] = getattr(config, name)
    return {
        "architectures": ["ChineseCLIPModel"],
        "model_type": MODEL_TYPE,
        "projection_dim": config.projection_dim,
        "text_config": text | {"model_type": "chinese_clip_text_model"},
        "vision_config": vision | {"model_type": "chinese_clip_vision_model"},
    }
