"""Perceptual distance: how far apart a VGG16 finds two pictures (LPIPS; Zhang et al. 2018).

Pixels (B, 3, H, W) in [-1, 1], at least 16 a side -> distance (B,), 0 for equal pictures. Module names are
torchvision's for the convolutions (features.N) and LPIPS's for the linear heads (linK.model.1). The weights
are the user's: none come with the project.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# channels of the convolutions, by stage; each stage ends with a halving of the sides
STAGES: tuple[tuple[int, ...], ...] = (
    (64, 64),
    (128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (512, 512, 512),
)
MIN_SIDE_PX = 16  # four halvings before the last stage
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation in [-1, 1]


class PerceptualDistance(nn.Module):
    """Squared differences of unit-length features after the last ReLU of each stage, summed over the stages.

    Args:
        heads: weigh channels by LPIPS's linear heads; without them every channel counts 1.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, *, heads: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self._ends: list[int] = []  # where each stage ends in `features`
        previous = 3
        for widths in STAGES:
            for width in widths:
                layers += [nn.Conv2d(previous, width, 3, padding=1), nn.ReLU(inplace=True)]
                previous = width
            self._ends.append(len(layers))
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        if heads:
            for k, widths in enumerate(STAGES):
                self.add_module(f"lin{k}", _Head(widths[-1]))
        self._has_heads = heads
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, rec: Tensor, pixels: Tensor) -> Tensor:
        """Distances (B,); gradients reach `rec` only."""
        with torch.no_grad():
            wanted = self._features(pixels)
        distance = torch.zeros(len(rec), device=rec.device)
        for k, (found, like) in enumerate(zip(self._features(rec), wanted, strict=True)):
            squares = (found - like).square()  # (B, C, h, w)
            if self._has_heads:
                squares = getattr(self, f"lin{k}").model(squares)  # (B, 1, h, w)
            distance = distance + squares.sum(dim=1).mean(dim=(1, 2))
        return distance

    def _features(self, pixels: Tensor) -> list[Tensor]:
        x, start, found = (pixels - self.shift) / self.scale, 0, []
        for end in self._ends:
            x, start = self.features[start:end](x), end
            # where no feature fires the norm is 0, and so is its gradient here
            found.append(F.normalize(x, dim=1, eps=1e-10))
        return found


class _Head(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        # place 0 is the dropout of LPIPS's own training
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))
