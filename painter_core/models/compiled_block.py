"""The parts of a block by torch.compile: those on both sides of attention, two graphs for all layers, and
attention of one position, a graph for each number of positions that it sees.

Only the writes into the cache stay outside: a compiled one into a view would copy the whole cache.

Shapes: B batch, T positions, D n_embd. Weights are arguments, so that layers of one shape share a graph.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# of a region; it has one for each number of rows, and in attention for each of positions. So many are never
# compiled (1,024 of rows by 64 of positions); torch gives up after 8, and after 256 of all that share code
MOST_GRAPHS = 2**16
EPS = 1e-5  # of the GPT's norms, torch's default


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer in the precision of its weight."""
    return F.linear(x.to(weight.dtype), weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """linear() within a region. Of a single row it is a product of vectors, which a compiled kernel reads at
    the speed of memory and fuses with what stands before and after it; kernels of matrices do neither."""
    if x.shape[:-1].numel() > 1:
        return linear(x, weight, bias)
    row = x.to(weight.dtype).float().flatten()  # (D,)
    found = (row * weight.float()).sum(-1) + bias.float()
    return found.to(weight.dtype).view(*x.shape[:-1], -1)


def _before(x: Tensor, norm: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ln1 and qkv: (B, T, D) -> (B, T, 3 D)."""
    return _product(F.layer_norm(x, norm.shape, norm, norm_bias, EPS), weight, bias)


def _after(
    x: Tensor,
    y: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    norm: Tensor,
    norm_bias: Tensor,
    widen: Tensor,
    widen_bias: Tensor,
    narrow: Tensor,
    narrow_bias: Tensor,
) -> Tensor:
    """proj, ln2 and the two layers behind it: two (B, T, D) -> (B, T, D)."""
    x = x + _product(y, proj, proj_bias)
    wide = _product(F.layer_norm(x, norm.shape, norm, norm_bias, EPS), widen, widen_bias)
    return x + _product(F.gelu(wide), narrow, narrow_bias)


def _attention(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Of one query a head, (B, H, 1, D/H): products of vectors, which a GPU does at the speed of its memory;
    kernels of attention are made for many queries."""
    scores = (q.float() * keys.float()).sum(-1) * q.shape[-1] ** -0.5 + mask  # (B, H, P)
    shares = scores.softmax(-1)[..., None]
    return (shares * values.float()).sum(-2, keepdim=True).to(q.dtype)


def allow_graphs() -> None:
    """Lets the caller's thread compile as many graphs as there are shapes; torch keeps settings a thread."""
    settings = torch._dynamo.config
    if settings.accumulated_recompile_limit < MOST_GRAPHS:
        settings.accumulated_recompile_limit = MOST_GRAPHS
        if not _limit():
            settings.recompile_limit = MOST_GRAPHS


@cache
def _limit() -> dict[str, Any]:
    """What torch.compile is told of it: a limit of the region's own, but before torch 2.13."""
    has_own = "recompile_limit" in inspect.signature(torch.compile).parameters
    return {"recompile_limit": MOST_GRAPHS} if has_own else {}


@cache
def _compiled(region: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compiled when it is first called; an error, instead of a slow step, if that cannot be done."""
    return torch.compile(region, dynamic=False, fullgraph=True, **_limit())


@dataclass(frozen=True)
class CompiledBlock:
    """A block of CachedGPT whose weights are not packed."""

    block: Any

    def before_attention(self, x: Tensor) -> Tensor:
        """As the block's own."""
        b = self.block
        return _compiled(_before)(x, b.ln1.weight, b.ln1.bias, b.qkv.weight, b.qkv.bias)

    def attention(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """As the block's own."""
        if mask is None:
            return self.block.attention(q, keys, values, mask)
        return _compiled(_attention)(q, keys, values, mask)

    def after_attention(self, x: Tensor, y: Tensor) -> Tensor:
        """As the block's own."""
        b = self.block
        return _compiled(_after)(
            x, y, b.proj.weight, b.proj.bias, b.ln2.weight, b.ln2.bias,
            b.widen.weight, b.widen.bias, b.narrow.weight, b.narrow.bias,
        )  # fmt: skip
