"""Hugging Face's GPT-2 with its cache, as a baseline of sampling: the same shape, random weights.

Its vocabulary is the codebook alone, so that its head is no larger than ours.
"""

import torch
from torch import Tensor

from painter_core.models.gpt import GPTConfig


def make_gpt2(config: GPTConfig, dtype: torch.dtype, device: torch.device) -> torch.nn.Module | None:
    """The model; None if transformers is not installed (pip install '.[bench]')."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        return None
    geometry = GPT2Config(
        vocab_size=config.codebook_size,
        n_positions=config.block_size,
        n_embd=config.n_embd,
        n_layer=config.n_layer,
        n_head=config.n_head,
        activation_function="gelu",
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(geometry).eval().to(device=device, dtype=dtype)


def generate(model: torch.nn.Module, ids: Tensor, *, new_tokens: int, top_k: int) -> Tensor:
    """ids (B, T) followed by new_tokens more."""
    return model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=top_k,
        max_new_tokens=new_tokens,
        use_cache=True,
        pad_token_id=0,
    )
