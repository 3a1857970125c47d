"""The GPT of EasyNLP's text-to-image system: text ids and codes in, logits over the next code out.

Shapes: B batch, T positions, D n_embd, H n_head, V codebook_size, W text_vocab_size. A sequence is text_len
text ids (BERT id + codebook_size) and then image_len codes. Attention is causal over everything; padding is
attended, as in EasyNLP. Module names are those of the published checkpoints (minGPT under the prefix
`transformer.`). models/cached_gpt.py computes the same one position at a time.

A model that captions has a head over the text ids too. Then a sequence may be the codes and after them the
text; its first id tells which it is. Every code and text id bears the position embedding that it has in the
other order, so that the positions are as many and mean the same.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from painter_core.models.dropout import dropped, mixed
from painter_core.models.unfilled import unfilled

INIT_STD = 0.02  # of new weights, as minGPT
PAINTS, CAPTIONS = "text_to_image", "image_to_text"
DIRECTIONS = ((PAINTS,), (PAINTS, CAPTIONS), (CAPTIONS,))


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
    directions: tuple[str, ...] = field(default=(PAINTS,), repr=False)
    """What it can do: one of DIRECTIONS."""

    def __post_init__(self) -> None:
        if isinstance(self.directions, list):  # as JSON has it
            object.__setattr__(self, "directions", tuple(self.directions))
        if self.directions not in DIRECTIONS:
            known = " or ".join(str(list(d)) for d in DIRECTIONS)
            raise ValueError(f"gpt.directions: got {self.directions!r}, expected {known}")
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

    @property
    def paints(self) -> bool:
        """Whether it has a head over the codes."""
        return PAINTS in self.directions

    @property
    def captions(self) -> bool:
        """Whether it has a head over the text ids."""
        return CAPTIONS in self.directions

    def to_json(self) -> dict[str, Any]:
        """The section of config.json; without the directions of a model that only paints, as ever."""
        spec = dataclasses.asdict(self)
        if self.directions == (PAINTS,):
            del spec["directions"]
        else:
            spec["directions"] = list(self.directions)
        return spec


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
    """Token and position embeddings, blocks, and a head over the codes, over the text ids, or both."""

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
        if config.paints:
            self.head = nn.Linear(config.n_embd, config.codebook_size, bias=False)
        self.apply(self._init_weights)
        if config.captions:
            self.text_head = nn.Linear(config.n_embd, config.text_vocab_size, bias=False)
            with torch.no_grad():  # it begins as the embeddings of the same ids; later both go their own way
                self.text_head.weight.copy_(self.tok_emb.weight[config.codebook_size :])

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INIT_STD)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(
        self, idx: Tensor, num_painted: int | None = None, keys: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits of every code of a picture, teacher-forced.

        Args:
            idx: int64 (B, text_len + n): text ids, then the first n codes, 0 <= n < image_len.
            num_painted: for a model of both directions: so many rows are like that, with n = image_len - 1,
                and those after them are the codes, then all text ids but the last.
            keys: int32 (B,), a random number a row, which decides what is dropped where rows are painted;
                without, nothing is.

        Returns:
            (B, n + 1, V): logits of codes 0..n. Text positions are cut before the head: nobody needs them.
            With num_painted, these of the first rows, and (B - num_painted, text_len, W) of the others.
        """
        if num_painted is not None:
            return self._both_ways(idx, num_painted)
        x = self.tok_emb(idx) + self.pos_emb[:, : idx.shape[1]]  # (B, text_len + n, D)
        x = self._stream(x, keys)
        return self.head(self.ln_f(x[:, self.config.text_len - 1 :]))  # (B, n + 1, V)

    def _both_ways(self, idx: Tensor, num_painted: int) -> tuple[Tensor, Tensor]:
        config, positions = self.config, self.pos_emb[:, : idx.shape[1]]
        turned = self.positions_turned()[:, : idx.shape[1]]
        x = self.tok_emb(idx)  # (B, block_size - 1, D)
        x = self._stream(torch.cat((x[:num_painted] + positions, x[num_painted:] + turned)))
        text = self.text_head(self.ln_f(x[num_painted:, config.image_len - 1 :]))
        if not config.paints:
            return x[:num_painted, :0], text
        return self.head(self.ln_f(x[:num_painted, config.text_len - 1 :])), text

    def positions_turned(self) -> Tensor:
        """Position embeddings (1, block_size, D) of a sequence whose codes come first."""
        text_len = self.config.text_len
        return torch.cat((self.pos_emb[:, text_len:], self.pos_emb[:, :text_len]), 1)

    def _stream(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
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
        return x


def with_text_head(gpt: GPT) -> GPT:
    """The same model, which can be trained to caption too; one that does already is given back."""
    if gpt.config.captions:
        return gpt
    config = dataclasses.replace(gpt.config, directions=(PAINTS, CAPTIONS))
    found = unfilled(GPT, config)
    text = gpt.tok_emb.weight.detach()[config.codebook_size :].clone()
    found.load_state_dict({**gpt.state_dict(), "text_head.weight": text}, strict=True, assign=True)
    return found.train(gpt.training)
