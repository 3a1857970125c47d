"""Low-rank adapters on the matrices of a GPT's blocks (LoRA, Hu et al. 2021): W + SCALE up down.

Shapes: R rank, I and O the width of a layer's input and output.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.models.gpt import GPT

SCALE = 2.0  # of what an adapter adds
# not the key: it meets the query in a product, which an adapter of the query changes as well
ATTENTION, MLP = ("query", "value", "proj"), (0, 2)


class LowRankLinear(nn.Module):
    """A linear layer that stays, and what is learned beside it.

    The sum is made anew in every pass, so that what is computed is what the merged layer computes, to the
    last bit in float32.

    Args:
        base: the layer; its weights are not trained.
        rank: R.
        generator: draws `down`; `up` begins at 0, so that nothing is added.
    """

    def __init__(self, base: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        down = torch.randn(rank, base.in_features, generator=generator) / base.in_features**0.5
        self.down = nn.Parameter(down.to(base.weight))  # (R, I)
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))  # (O, R)

    @property
    def weight(self) -> Tensor:
        """(O, I)."""
        return self.base.weight + SCALE * (self.up @ self.down)

    @property
    def bias(self) -> Tensor:
        """(O,)."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def add_adapters(gpt: GPT, rank: int, seed: int) -> None:
    """Puts adapters beside the matrices of all blocks but the keys'; nothing else is trained from then on."""
    generator = torch.Generator().manual_seed(seed)
    gpt.requires_grad_(requires_grad=False)
    blocks: Any = gpt.blocks  # nn.ModuleList forgets what it holds
    for block in blocks:
        for name in ATTENTION:
            setattr(block.attn, name, LowRankLinear(getattr(block.attn, name), rank, generator))
        for number in MLP:
            block.mlp[number] = LowRankLinear(block.mlp[number], rank, generator)


def has_adapters(gpt: GPT) -> bool:
    """Whether there are some."""
    return any(isinstance(module, LowRankLinear) for module in gpt.modules())


def adapter_state(gpt: GPT) -> dict[str, Tensor]:
    """The adapters' tensors by name: `blocks.0.attn.key.down`, ..."""
    return {k: v for k, v in gpt.state_dict().items() if k.endswith((".down", ".up"))}


@torch.no_grad()
def merged(gpt: GPT) -> GPT:
    """A GPT of plain layers that computes the same; the GPT itself if it has no adapters."""
    if not has_adapters(gpt):
        return gpt
    whole = copy.deepcopy(gpt)
    for module in list(whole.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, LowRankLinear):
                layer.base.weight.copy_(layer.weight)
                setattr(module, name, layer.base)
    return whole.requires_grad_()
