"""The GPT for sampling: weights fused and cast once, keys and values of all positions in a fixed cache.

GPT.forward computes the same for whole sequences, in training. Shapes: B batch, T positions, D n_embd, H
n_head, V codebook_size, P positions of the cache. A model is given text and writes codes. Turned around
(`turned`), it is given codes and writes text: `text` is then the codes below, and V text_vocab_size.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.models.compiled_block import CompiledBlock, allow_graphs, linear
from painter_core.models.gpt import GPT

PACKED_FOR_ROWS = 16  # a hint: products of other sizes are right too


@dataclass(frozen=True)
class _Linear:
    """A linear layer in the precision of the products."""

    weight: Tensor
    bias: Tensor | None
    packed: bool
    """Whether the weight has oneDNN's own layout, to which F.linear would convert it in every call."""

    @classmethod
    def of(cls, parts: list[nn.Linear], dtype: torch.dtype, *, pack: bool) -> "_Linear":
        """Fuses layers that have the same input."""
        weight = torch.cat([p.weight.detach() for p in parts]).to(dtype)
        bias = None if parts[0].bias is None else torch.cat([p.bias.detach() for p in parts]).to(dtype)
        packed = pack and _can_pack(weight)
        if packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR_ROWS)
        return cls(weight, bias, packed)

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed:
            x = x.to(self.weight.dtype)
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return linear(x, self.weight, self.bias)


def _can_pack(weight: Tensor) -> bool:
    """Whether oneDNN computes with weights of this type on this machine."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@dataclass(frozen=True)
class _Block:
    ln1: nn.LayerNorm
    qkv: _Linear
    proj: _Linear
    ln2: nn.LayerNorm
    widen: _Linear
    narrow: _Linear

    def before_attention(self, x: Tensor) -> Tensor:
        """Queries, keys and values (B, T, 3 D)."""
        return self.qkv(self.ln1(x))

    def attention(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Of (B, H, T, D/H) queries, (B, H, T, D/H).

        Args:
            mask: (1, P), added to the scores; by default several queries are causal, and one sees all.
        """
        causal = mask is None and q.shape[2] > 1
        return F.scaled_dot_product_attention(q, keys, values, mask, is_causal=causal)

    def after_attention(self, x: Tensor, y: Tensor) -> Tensor:
        """The stream behind the block, of the stream before it and what attention found, (B, T, D) each."""
        x = x + self.proj(y)
        return x + self.narrow(F.gelu(self.widen(self.ln2(x))))


class CachedGPT:
    """A GPT that samples: prefill of the text once, then one position a step.

    Products are computed in `dtype`, the residual stream and the norms in float32, as under autocast.

    Args:
        model: in eval mode, on the device; its matrices are copied and not kept.
        dtype: float32 or bfloat16.
        pack: on a CPU keep weights in the layout of its matrix products.
        compiled: steps of one position by torch.compile, region by region (compiled_block.py).

    A model that only captions can be nothing but turned around.
    """

    def __init__(self, model: GPT, dtype: torch.dtype, *, pack: bool = True, compiled: bool = False) -> None:
        config = model.config
        self.config, self.dtype = config, dtype
        self.device = model.pos_emb.device
        self._tokens, self._positions = model.tok_emb.weight.detach(), model.pos_emb.detach()
        blocks: Any = model.blocks  # nn.ModuleList forgets what it holds

        def fused(*parts: nn.Linear) -> _Linear:
            return _Linear.of(list(parts), dtype, pack=pack and not compiled)

        self._blocks = [
            _Block(
                ln1=block.ln1,
                qkv=fused(block.attn.query, block.attn.key, block.attn.value),
                proj=fused(block.attn.proj),
                ln2=block.ln2,
                widen=fused(block.mlp[0]),
                narrow=fused(block.mlp[2]),
            )
            for block in blocks
        ]
        self._ln_f = model.ln_f
        if config.captions:
            self._turned = (model.positions_turned().detach(), fused(model.text_head))
        if config.paints:
            self._head = fused(model.head)
        # P: the last code is never an input, but kernels read a multiple of 8 positions without a copy
        self.num_positions = config.block_size
        self._cache = self._new_cache(0)
        self.moves = 0
        """How often the cache was replaced: graphs of steps hold until the next time."""
        self._steps: list[Any] = [*self._blocks]  # of one position
        self._compiled = compiled
        if compiled:
            self._steps = [CompiledBlock(block) for block in self._blocks]

    def turned(self) -> Self:
        """The same weights from the other side: codes in, text out. It has a cache of its own as soon as the
        number of rows changes; before, its prefill overwrites what the other one has cached."""
        found = copy.copy(self)
        found._positions, found._head = self._turned
        return found

    def repeat(self, rows: Tensor) -> None:
        """Goes on with these rows of the batch, which may be more, in another order, and several times."""
        self._cache = [cache[:, rows] for cache in self._cache]
        self.moves += 1

    def _new_cache(self, batch_size: int) -> list[Tensor]:
        """Keys and values of each layer, (2, B, H, P, D/H)."""
        config = self.config
        shape = (2, batch_size, config.n_head, self.num_positions, config.n_embd // config.n_head)
        return [torch.zeros(shape, device=self.device, dtype=self.dtype) for _ in range(config.n_layer)]

    def _make_room(self, batch_size: int) -> None:
        if batch_size != self._cache[0].shape[1]:
            self.moves += 1
            self._cache = self._new_cache(0)  # frees the old one first
            self._cache = self._new_cache(batch_size)

    def prefill(self, text_ids: Tensor) -> Tensor:
        """Fills the cache with the text (B, text_len), or with it and the first codes; returns the logits
        (B, V) of the next code.

        The cache stays where it is from batch to batch, as long as they have as many rows.
        """
        batch_size, end = text_ids.shape
        self._make_room(batch_size)
        return self._logits(text_ids, slice(0, end), end, None)

    def step(self, codes: Tensor, input_pos: int) -> Tensor:
        """Logits (B, V) of the code after `codes` (B,), which stand at position input_pos."""
        end = input_pos + 1
        return self._logits(codes[:, None], slice(input_pos, end), end, None)

    def static_step(self, codes: Tensor, input_pos: Tensor, end: int) -> Tensor:
        """As step(), with the position on the device and shapes that depend on `end` alone.

        Args:
            codes: int64 (B,).
            input_pos: int64 (1,), below `end`.
            end: positions of the cache that are read; those after input_pos are masked.
        """
        seen = torch.arange(end, device=self.device) <= input_pos  # (end,)
        # what is added to the scores, made once: attention would make it of bool in each layer
        mask = torch.zeros(end, device=self.device, dtype=self.dtype).masked_fill(~seen, -math.inf)
        return self._logits(codes[:, None], input_pos, end, mask[None])

    def logits_of_rows(self, text_ids: Tensor, codes: Tensor) -> Iterator[Tensor]:
        """Logits (L, V) of all codes of one picture after the other, teacher-forced; they fill the cache.

        Args:
            text_ids: (B, text_len).
            codes: (B, L), whole pictures; turned around (B, text_len), whole texts.
        """
        self._make_room(len(text_ids))
        idx = torch.cat((text_ids, codes[:, :-1]), 1)
        stream = self._stream(idx, slice(0, idx.shape[1]), idx.shape[1], None)
        for row in stream[:, text_ids.shape[1] - 1 :]:  # (L, D); the logits of all pictures would not fit
            yield self._head(self._ln_f(row))

    def _logits(self, idx: Tensor, at: slice | Tensor, end: int, mask: Tensor | None) -> Tensor:
        return self._head(self._ln_f(self._stream(idx, at, end, mask)[:, -1]))

    def _stream(self, idx: Tensor, at: slice | Tensor, end: int, mask: Tensor | None) -> Tensor:
        """What the last block leaves, (B, T, D)."""
        b, t = idx.shape
        x = F.embedding(idx, self._tokens) + self._positions[:, at]  # (B, T, D)
        blocks = self._steps if t == 1 else self._blocks
        if t == 1 and self._compiled:
            allow_graphs()
        for block, cache in zip(blocks, self._cache, strict=True):
            qkv = block.before_attention(x).view(b, t, 3, self.config.n_head, -1)
            qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, B, H, T, D/H)
            if isinstance(at, slice):
                cache[:, :, :, at] = qkv[1:]
            else:
                cache.index_copy_(3, at, qkv[1:])
            keys, values = cache[:, :, :, :end]
            y = block.attention(qkv[0], keys, values, mask)
            x = block.after_attention(x, y.transpose(1, 2).reshape(b, t, -1))
        return x
