"""PatchGAN discriminator of the VQGAN's training (Isola et al. 2017; taming's NLayerDiscriminator).

Pixels (B, 3, H, W) -> one logit a patch (B, 1, h, w).
"""

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Strided convolutions with batch norm and leaky ReLU.

    Args:
        ch: channels of the first layer, doubled by each of the next up to eight times.
        n_layers: strided layers after the first.
    """

    def __init__(self, ch: int = 64, n_layers: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, ch, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = ch
        for i in range(1, n_layers + 1):
            previous, width = width, ch * min(2**i, 8)
            stride = 2 if i < n_layers else 1
            layers += [
                nn.Conv2d(previous, width, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(width, 1, 4, padding=1))
        self.main = nn.Sequential(*layers)
        for module in self.main:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.main(pixels)
