"""EasyNLP's captioning models with formula weights, and their forward pass written down from the formulas.

A sequence is image_len codes, each + text_vocab_size, and then text ids; positions count from 0. Blocks are
x + proj(softmax(q k^T / sqrt(d) + causal) v) and x + W2 gelu(W1 x), norms before each; a norm and the head,
over text ids, at the end. Nothing here comes from painter_core but the sizes.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from tests.golden.formula import fill, vocab
from tests.support.foreign import GPT_TINY, VQGAN_TINY, formula_state


def shapes(gpt: GPTConfig, *, extra_row: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the GPT's tensors, without prefix."""
    d, w = gpt.n_embd, gpt.text_vocab_size
    found: dict[str, tuple[int, ...]] = {
        "tok_emb.weight": (w + gpt.codebook_size + extra_row, d),
        "pos_emb": (1, gpt.block_size, d),
    }
    for i in range(gpt.n_layer):
        block = f"blocks.{i}."
        for norm in ("ln1", "ln2"):
            found |= {f"{block}{norm}.weight": (d,), f"{block}{norm}.bias": (d,)}
        for layer in ("key", "query", "value", "proj"):
            found |= {f"{block}attn.{layer}.weight": (d, d), f"{block}attn.{layer}.bias": (d,)}
        found |= {f"{block}mlp.0.weight": (4 * d, d), f"{block}mlp.0.bias": (4 * d,)}
        found |= {f"{block}mlp.2.weight": (d, 4 * d), f"{block}mlp.2.bias": (d,)}
    return found | {"ln_f.weight": (d,), "ln_f.bias": (d,), "head.weight": (w, d)}


def gpt_state(gpt: GPTConfig = GPT_TINY, *, extra_row: bool = True) -> dict[str, Tensor]:
    """Formula weights; of tok_emb by the reordered names, so that text and codes differ."""
    return {
        name: torch.from_numpy(fill("i2t." + name, shape))
        for name, shape in shapes(gpt, extra_row=extra_row).items()
    }


def greedy(state: dict[str, Tensor], codes: np.ndarray, gpt: GPTConfig) -> list[list[int]]:
    """The likeliest text id at each step, given codes (B, L), up to [PAD]; without a cache."""
    idx = torch.from_numpy(codes.astype(np.int64)) + gpt.text_vocab_size
    for _ in range(gpt.text_len):
        idx = torch.cat((idx, forward(state, idx, gpt)[:, -1].argmax(1, keepdim=True)), 1)
    rows = idx[:, gpt.image_len :].tolist()
    return [row[: row.index(0)] if 0 in row else row for row in rows]


@torch.inference_mode()
def forward(state: dict[str, Tensor], idx: Tensor, gpt: GPTConfig) -> Tensor:
    """Logits (B, T, W)."""
    b, t = idx.shape
    x = state["tok_emb.weight"][idx] + state["pos_emb"][:, :t]
    hidden = torch.ones(t, t).triu(1).bool()

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def heads(x: Tensor) -> Tensor:
        return x.view(b, t, gpt.n_head, -1).transpose(1, 2)

    for i in range(gpt.n_layer):
        block = f"blocks.{i}."
        y = norm(block + "ln1", x)
        q, k, v = (heads(linear(f"{block}attn.{name}", y)) for name in ("query", "key", "value"))
        weights = (
            (q @ k.transpose(-2, -1) / math.sqrt(k.shape[-1])).masked_fill(hidden, -math.inf).softmax(-1)
        )
        x = x + linear(block + "attn.proj", (weights @ v).transpose(1, 2).reshape(b, t, -1))
        y = linear(block + "mlp.0", norm(block + "ln2", x))
        x = x + linear(block + "mlp.2", y * (1 + torch.erf(y / math.sqrt(2))) / 2)
    return norm("ln_f", x) @ state["head.weight"].T


def i2t_config(gpt: GPTConfig = GPT_TINY, *, extra_row: bool = True) -> dict[str, Any]:
    """EasyNLP's config.json."""
    return {
        "model_type": "mingpt_i2t",
        "vocab_size": gpt.vocab_size + extra_row,
        "decode_vocab_size": gpt.text_vocab_size,
        "block_size": gpt.block_size,
        "n_layer": gpt.n_layer,
        "n_head": gpt.n_head,
        "n_embd": gpt.n_embd,
        "embd_pdrop": 0.0,
        "n_unmasked": 0,
        "prefix_encoder_type": "vqgan",
        "prefix_encoder_ckpt_path": "vqgan_f16_16384.bin",
    }


def write_i2t(
    directory: Path,
    vqgan: VQGANConfig = VQGAN_TINY,
    gpt: GPTConfig = GPT_TINY,
    *,
    extra_row: bool = True,
    changed: dict[str, Tensor | None] | None = None,
    **config: Any,
) -> dict[str, Tensor]:
    """Writes such a directory, and returns the tensors of its GPT.

    Args:
        changed: tensors of the GPT to replace, add or (None) leave out.
        config: entries of config.json to replace or (None) leave out.
    """
    directory.mkdir(parents=True)
    state = gpt_state(gpt, extra_row=extra_row) | (changed or {})
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    written = formula_state(VQGAN, vqgan, "first_stage_model.")
    side = gpt.block_size
    mask = torch.ones(side, side).tril().view(1, 1, side, side)
    written |= {f"transformer.blocks.{i}.attn.mask": mask for i in range(gpt.n_layer)}
    written |= {f"transformer.{name}": tensor for name, tensor in state.items()}
    torch.save(written, directory / "pytorch_model.bin")
    spec = {k: v for k, v in (i2t_config(gpt, extra_row=extra_row) | config).items() if v is not None}
    (directory / "config.json").write_text(json.dumps(spec))
    (directory / "vocab.txt").write_text("\n".join(vocab(gpt.text_vocab_size)) + "\n")
    return state  # type: ignore[return-value]
