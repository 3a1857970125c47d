"""The adversarial part of a VQGAN's training: the discriminator's loss, and its weight in the generator's.

Shapes: B pictures, pixels and reconstructions (B, 3, S, S) in [-1, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.models.discriminator import PatchDiscriminator


class DiscriminatorLoss(nn.Module):
    """The discriminator's training pass, as one module for DistributedDataParallel.

    Real and painted pictures pass one after the other, as in taming: in one batch each kind would be
    normalised by statistics that include the other one.
    """

    def __init__(self, discriminator: PatchDiscriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, pixels: Tensor, rec: Tensor) -> Tensor:
        """Hinge loss: real patches are to be above 1, painted ones below -1."""
        real, painted = self.discriminator(pixels), self.discriminator(rec)
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + painted).mean())


def adversarial_weight(error: Tensor, fooled: Tensor, last: Tensor) -> Tensor:
    """taming's adaptive weight: how much steeper the reconstruction's error is than the adversarial loss.

    Args:
        error: the reconstruction's error, scalar.
        fooled: the generator's adversarial loss, scalar.
        last: weights of the decoder's last layer, at which both gradients are measured.
    """
    of_error = torch.autograd.grad(error, last, retain_graph=True)[0].norm()
    of_fooled = torch.autograd.grad(fooled, last, retain_graph=True)[0].norm()
    return (of_error / (of_fooled + 1e-4)).clamp(0, 1e4).detach()
