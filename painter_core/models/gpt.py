"""The GPT of EasyNLP's text-to-image system: text ids and codes in, logits over the next code out.

Shapes: B batch, T positions, D n_embd, H n_head, V codebook_size. A sequence is text_len text ids (BERT id +
codebook_size) and then image_len codes. Attention is causal over everything; padding is attended, as in
EasyNLP. Module names are those of the published checkpoints (minGPT under the prefix `transformer.`).
models/cached_gpt.py computes the same one position at a time.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from painter_core.models.dropout import dropped, mixed

INIT_STD = 0.02  # of new weights, as minGPT


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Geometry of a GPT; the defaults are pai-painter-base-zh."""

    text_vocab_size: int = 21128
    """Number of text ids (lines of vocab.txt)."""
    codebook_size: int = 16384
    """Number of codes of the VQGAN."""
    text_len: int = 32
    """Text ids a sequence."""
    image_len: int = 256
    """Codes a sequence."""
    n_layer: int = 12
    """Number of blocks."""
    n_head: int = 12
    """Attention heads a block."""
    n_embd: int = 768
    """Width."""

    def __post_init__(self) -> None:
        for name, limit in (
            ("text_vocab_size", 2**20),
            ("codebook_size", 65536),
            ("text_len", 4096),
            ("image_len", 65536),
            ("n_layer", 256),
            ("n_head", 256),
            ("n_embd", 16384),
        ):
            if not 0 < getattr(self, name) <= limit:
                raise ValueError(f"gpt.{name}: got {getattr(self, name)}, expected 1..{limit}")
        if self.n_embd % self.n_head:
            raise ValueError(f"gpt.n_embd: got {self.n_embd}, expected a multiple of n_head {self.n_head}")

    @property
    def vocab_size(self) -> int:
        """Codes and text ids together: ids 0..codebook_size-1 are codes."""
        return self.codebook_size + self.text_vocab_size

    @property
    def block_size(self) -> int:
        """Positions of a whole sequence."""
        return self.text_len + self.image_len


def _attention(q: Tensor, k: Tensor, v: Tensor, drop: tuple[Tensor, float] | None) -> Tensor:
    """Causal attention of (B, H, T, D/H); in float32 when a CPU trains, where the backward pass in bfloat16
    takes three times as long. With `drop`, keys of the rows and a share, weights are dropped."""
    if q.device.type == "cpu" and q.requires_grad:
        q, k, v = q.float(), k.float(), v.float()
        with torch.autocast("cpu", enabled=False):
            return _weighted(q, k, v, drop)
    return _weighted(q, k, v, drop)


def _weighted(q: Tensor, k: Tensor, v: Tensor, drop: tuple[Tensor, float] | None) -> Tensor:
    if drop is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    later = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).triu(1)  # (T, T)
    scores = (q @ k.transpose(2, 3) * q.shape[3] ** -0.5).float().masked_fill(later, float("-inf"))
    return dropped(scores.softmax(-1), *drop).to(v.dtype) @ v  # (B, H, T, D/H)


class SelfAttention(nn.Module):
    """Multi-head causal self-attention."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.key = nn.Linear(config.n_embd, config.n_embd)
        self.query = nn.Linear(config.n_embd, config.n_embd)
        self.value = nn.Linear(config.n_embd, config.n_embd)
        self.proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, drop: tuple[Tensor, float] | None = None) -> Tensor:
        b, t, d = x.shape
        # the published names are kept, and one product of three times the width is faster than three
        parts = (self.query, self.key, self.value)
        qkv = F.linear(x, torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
        q, k, v = qkv.view(b, t, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)  # 3 x (B, H, T, D/H)
        y = _attention(q, k, v, drop)
        return self.proj(y.transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(config.n_embd)
        self.ln2 = nn.LayerNorm(config.n_embd)
        self.attn = SelfAttention(config)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd),
            nn.GELU(),
            nn.Linear(4 * config.n_embd, config.n_embd),
        )

    def forward(self, x: Tensor, drop: tuple[Tensor, float] | None = None) -> Tensor:
        if drop is None:
            x = x + self.attn(self.ln1(x))
            return x + self.mlp(self.ln2(x))
        keys, share = drop
        x = x + dropped(self.attn(self.ln1(x), (mixed(keys, 1), share)), mixed(keys, 2), share)
        return x + dropped(self.mlp(self.ln2(x)), mixed(keys, 3), share)


class GPT(nn.Module):
    """Token and position embeddings, blocks, and a head over the codes."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False
        """Whether a block's activations are computed again in the backward pass, not kept."""
        self.dropout = 0.0
        """Share of the embeddings, attention weights and outputs of layers that is dropped, where keys say
        what."""
        self.is_compiled = False
        """Whether the parts of a training step are compiled (training/regions.py)."""
        self.tok_emb = nn.Embedding(config.vocab_size, config.n_embd)
        self.pos_emb = nn.Parameter(torch.zeros(1, config.block_size, config.n_embd))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.codebook_size, bias=False)
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INIT_STD)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx: Tensor, keys: Tensor | None = None) -> Tensor:
        """Logits of every code of a picture, teacher-forced.

        Args:
            idx: int64 (B, text_len + n): text ids, then the first n codes, 0 <= n < image_len.
            keys: int32 (B,), a random number a row, which decides what is dropped; without, nothing is.

        Returns:
            (B, n + 1, V): logits of codes 0..n. Text positions are cut before the head: nobody needs them.
        """
        x = self.tok_emb(idx) + self.pos_emb[:, : idx.shape[1]]  # (B, text_len + n, D)
        again = self.activation_checkpointing and torch.is_grad_enabled()
        drop = None
        if keys is not None and self.dropout:
            x = dropped(x, keys, self.dropout)
        for number, block in enumerate(self.blocks):
            if keys is not None and self.dropout:
                drop = (mixed(keys, 16 * (number + 1)), self.dropout)
            # blocks draw no random numbers, so there is no state of theirs to keep
            x = (
                checkpoint(block, x, drop, use_reentrant=False, preserve_rng_state=False)
                if again
                else block(x, drop)
            )
        return self.head(self.ln_f(x[:, self.config.text_len - 1 :]))  # (B, n + 1, V)
