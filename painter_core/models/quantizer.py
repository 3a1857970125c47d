"""From latents to codes: the codebook of a VQGAN, in each of the forms that published ones have.

Shapes: N latents, E embed_dim, V codebook_size.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCORED_ROWS = 1024  # latents compared at a time: the scores of 1,024 with 16,384 entries are 64 MiB
GROUP = 128  # scores a group: the largest group is found first, then the place in it

QuantizerForm = Literal["nearest", "dot", "projected"]


class Quantizer(nn.Module):
    """The codebook E. A latent z gets the code arg max_n (z.A_n + b_n), and the code stands for E_n.

    nearest: A = E, b = -|E|^2 / 2, which is the nearest entry (taming-transformers, LDM, Chameleon).
    dot: A = E, b = 0 (IBQ, and LlamaGen, whose entries all have length 1).
    projected: A and b are weights of their own (the VQGAN with Gumbel softmax).
    """

    def __init__(self, codebook_size: int, embed_dim: int, form: QuantizerForm = "nearest") -> None:
        super().__init__()
        self.form = form
        self.embedding = nn.Embedding(codebook_size, embed_dim)
        nn.init.uniform_(self.embedding.weight, -1.0 / codebook_size, 1.0 / codebook_size)
        if form == "projected":
            self.proj = nn.Linear(embed_dim, codebook_size)

    def codes(self, z: Tensor) -> Tensor:
        """Codes (N,) of latents (N, E); scored in float32, since a flipped arg-max is a wrong code."""
        a, b = self._products()
        with torch.autocast(z.device.type, enabled=False):
            return torch.cat([_argmax(F.linear(p, a, b)) for p in z.float().split(SCORED_ROWS)])

    def _products(self) -> tuple[Tensor, Tensor | None]:
        """A (V, E) and b (V,) in float32."""
        if self.form == "projected":
            return self.proj.weight.float(), self.proj.bias.float()
        entries = self.embedding.weight.float()
        if self.form == "dot":
            return entries, None
        # arg min |z - e|^2 = arg max (z.e - |e|^2 / 2): one product, and |z|^2 is not needed
        return entries, -0.5 * entries.square().sum(dim=1)


def _argmax(scores: Tensor) -> Tensor:
    """First largest entry (N,) of each row of scores (N, V): the group that holds it, then its place there.

    On a CPU argmax compares one number after the other, amax many at once: it takes a quarter of the time.
    """
    groups = scores.view(len(scores), -1, math.gcd(scores.shape[1], GROUP))  # (N, V / G, G)
    best = groups.amax(dim=2).argmax(dim=1)
    found = groups[torch.arange(len(scores), device=scores.device), best]  # (N, G)
    return best * groups.shape[2] + found.argmax(dim=1)
