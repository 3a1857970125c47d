"""Our model directory -> an EasyNLP directory: config.json, pytorch_model.bin, vocab.txt."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from painter_core.model_files.directory import TEXT_HEAD, ModelDirectory
from painter_core.model_files.foreign import GPT_PREFIX, VQGAN_PREFIX
from painter_core.models.gpt import GPTConfig
from painter_core.text.tokenizer import Tokenizer

WEIGHTS = "pytorch_model.bin"


def to_easynlp(
    model: ModelDirectory, target: Path, *, vqgan: ModelDirectory | None, tokenizer: Tokenizer | None
) -> list[str]:
    """Writes a model as an EasyNLP directory.

    Args:
        model: a directory that holds a GPT.
        target: an empty directory; not written atomically.
        vqgan: the VQGAN of a model that holds none.
        tokenizer: the tokenizer of a model that has no vocab.txt.

    Returns:
        Lines that say what was mapped and added.

    Raises:
        ValueError: the model cannot be written in this form.
    """
    if (model.vqgan_config is None) != (vqgan is not None):
        raise ValueError(
            f"--vqgan: {model.path} holds {'no' if model.vqgan_config is None else 'a'} VQGAN already"
        )
    if model.gpt_config is not None and not model.gpt_config.paints:
        raise ValueError(
            f"{model.path}: only captions; EasyNLP's form of such models is read, but not written"
        )
    gpt, first_stage = model.load_gpt(), (vqgan or model).load_vqgan()
    if first_stage.config.quantizer != "nearest":
        raise ValueError(
            f"{(vqgan or model).path}: its VQGAN has the quantizer {first_stage.config.quantizer}; EasyNLP "
            "knows the nearest entry only, and would make other codes of the same tensors"
        )
    ids = tokenizer or model.load_tokenizer()
    if ids.file_name != "vocab.txt":
        raise ValueError(
            f"{model.path}: its tokenizer is {ids.file_name}, EasyNLP reads vocab.txt; give --vocab"
        )
    config = gpt.config
    if (ids.vocab_size, first_stage.config.image_len) != (config.text_vocab_size, config.image_len):
        raise ValueError(
            f"{model.path}: its GPT has {config.text_vocab_size} text ids and {config.image_len} codes a "
            f"picture, but vocab.txt has {ids.vocab_size} and the VQGAN {first_stage.config.image_len}"
        )
    state = {VQGAN_PREFIX + name: tensor for name, tensor in first_stage.state_dict().items()}
    painting = {name: t for name, t in gpt.state_dict().items() if not name.startswith(TEXT_HEAD)}
    state |= _with_masks({GPT_PREFIX + name: tensor for name, tensor in painting.items()}, config)
    torch.save(state, target / WEIGHTS)
    (target / "config.json").write_text(json.dumps(_easynlp_config(config), indent=2) + "\n")
    ids.save(target)
    report = [f"{WEIGHTS}: {len(state)} tensors, {config.n_layer} attention masks among them"]
    if config.captions:
        report.append(f"{TEXT_HEAD}weight left out: EasyNLP's model only paints")
    published = GPTConfig()
    for name in ("codebook_size", "text_len", "image_len"):
        if getattr(config, name) != getattr(published, name):
            report.append(
                f"EasyNLP itself cannot use this model: its code fixes {name} {getattr(published, name)}"
            )
    return [*report, str(config), str(first_stage.config)]


def _with_masks(state: dict[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Puts EasyNLP's causal masks where its own state dict has them: before the keys of each block."""
    side = config.block_size
    result = {}
    for name, tensor in state.items():
        if name.endswith(".attn.key.weight"):
            result[name.removesuffix("key.weight") + "mask"] = (
                torch.ones(side, side).tril().view(1, 1, side, side)
            )
        result[name] = tensor
    return result


def _easynlp_config(config: GPTConfig) -> dict[str, Any]:
    return {
        "model_type": "artist",
        "vocab_size": config.vocab_size,
        "img_vocab_size": config.codebook_size,
        "text_vocab_size": config.text_vocab_size,
        "block_size": config.block_size,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "n_unmasked": 0,
    }
