"""EasyNLP's captioning models (image2text_generation with a VQGAN) under our names and in our order.

There a sequence is the codes, then the text; ids below the text's vocabulary are text, codes stand behind
them, and the first positions are the codes'. Here ids of codes come first, and so do the positions of text:
rows are moved, no number changes. The head is over text ids, so that the model only captions.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from painter_core.model_files.foreign_geometry import easynlp_heads, easynlp_text_len
from painter_core.models.gpt import CAPTIONS, GPTConfig
from painter_core.models.vqgan import VQGANConfig

MODEL_TYPES = ("mingpt_i2t", "artist_i2t")
CLIP_FORM = (
    "the form of EasyNLP's image2text_generation with a CLIP encoder before the GPT is not supported, only "
    "the one with a VQGAN (enable_vqgan=True); or train with jobs/train.py --image-to-text"
)
CLIP_NAMES = ("clip-gpt-i2t-base-zh",)  # of models that EasyNLP publishes


def is_captioner(spec: Mapping[str, Any]) -> bool:
    """Whether a config.json is of such a model.

    Raises:
        ValueError: it is of the form with CLIP.
    """
    if spec.get("model_type") not in MODEL_TYPES:
        return False
    kind = spec.get("prefix_encoder_type")
    if kind not in (None, "vqgan"):
        raise ValueError(f"config.json: prefix_encoder_type is {kind!r}: {CLIP_FORM}")
    return True


def read_captioner(
    spec: Mapping[str, Any],
    state: Mapping[str, Tensor],
    vqgan: VQGANConfig,
    *,
    n_head: int | None,
    text_len: int | None,
    report: list[str],
) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Geometry and tensors.

    Args:
        spec: config.json.
        state: tensors of the GPT without prefix.
        vqgan: the one of the model.

    Raises:
        ValueError: a tensor is missing, or what it says contradicts config.json or the VQGAN.
    """
    needed = ("tok_emb.weight", "pos_emb", "head.weight")
    if missing := [name for name in needed if name not in state]:
        raise ValueError(f"tensors are missing among {len(state)}: {', '.join(missing)}")
    tokens, positions, head = (state[name] for name in needed)
    text, codes = len(head), vqgan.codebook_size
    if len(tokens) not in (text + codes, text + codes + 1):
        raise ValueError(
            f"tok_emb.weight has {len(tokens)} rows, expected {text + codes} or one more: {text} text ids, "
            f"as head.weight has, and the VQGAN's {codes} codes"
        )
    config = GPTConfig(
        text_vocab_size=text,
        codebook_size=codes,
        text_len=easynlp_text_len(positions.shape[1], vqgan, text_len, report),
        image_len=vqgan.image_len,
        n_layer=sum(name.startswith("blocks.") and name.endswith(".ln1.weight") for name in state),
        n_head=easynlp_heads(spec, n_head, report),
        n_embd=tokens.shape[1],
        directions=(CAPTIONS,),
    )
    _check_config(spec, config, len(tokens))
    found = {name: tensor for name, tensor in state.items() if name not in needed}
    found["tok_emb.weight"] = torch.cat((tokens[text : text + codes], tokens[:text]))
    found["pos_emb"] = torch.cat((positions[:, vqgan.image_len :], positions[:, : vqgan.image_len]), 1)
    found["text_head.weight"] = head
    if len(tokens) > text + codes:
        report.append("tok_emb.weight: its last row left out, which no id has")
    report.append(
        "tok_emb.weight, pos_emb: rows moved, codes before text and text positions before those of codes; "
        "head.weight is over text ids, and called text_head.weight; there is none over codes: the model "
        "captions, and does not paint"
    )
    return config, found


def _check_config(spec: Mapping[str, Any], config: GPTConfig, rows: int) -> None:
    if spec.get("n_unmasked", 0) != 0:
        raise ValueError(f"config.json: n_unmasked is {spec['n_unmasked']}, which is not supported")
    expected = {
        "vocab_size": rows,
        "decode_vocab_size": config.text_vocab_size,
        "block_size": config.block_size,
        "n_layer": config.n_layer,
        "n_embd": config.n_embd,
    }
    wrong = [f"{k} is {spec[k]}, the tensors say {v}" for k, v in expected.items() if spec.get(k, v) != v]
    if wrong:
        raise ValueError("config.json belongs to another model: " + "; ".join(wrong))
