"""The GPT's training step by torch.compile, region by region: a block, of which all have one graph, and the
cross entropy, which without it keeps three copies of the logits in float32.

Compiled as a whole, 12 to 24 unrolled blocks take minutes; by regions it is one block's seconds.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.models.gpt import GPT


def compile_regions(model: GPT) -> None:
    """Lets the blocks and the cross entropy be compiled when they are first used.

    A shorter last batch, and validation, get graphs of their own, and the others keep theirs.
    """
    for block in model.blocks:
        block.compile(dynamic=False)
    model.is_compiled = True


def cross_entropy_sum(
    model: nn.Module, logits: Tensor, codes: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Sum of the cross entropies of logits (B, L, V) at codes (B, L), in float32.

    Args:
        model: the GPT, or what wraps it for several workers.
        label_smoothing: share of the probability that is to be spread over all codes.
    """
    gpt = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    work = _compiled() if isinstance(gpt, GPT) and gpt.is_compiled else _cross_entropy_sum
    return work(logits, codes, label_smoothing)


def _cross_entropy_sum(logits: Tensor, codes: Tensor, label_smoothing: float) -> Tensor:
    targets = codes.flatten()
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets, reduction="sum", label_smoothing=label_smoothing
    )


@cache
def _compiled() -> Callable[[Tensor, Tensor, float], Tensor]:
    return torch.compile(_cross_entropy_sum, dynamic=False)
