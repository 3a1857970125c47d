"""Inception v3 as the Frechet distance uses it: TensorFlow's network of 2015-12-05, its weights the user's.

Pixels (B, 3, 299, 299), (x - 128) / 128 of 8-bit values -> features (B, 2048). Module names are those of
pt_inception-2015-12-05-6726825d.pth (pytorch-fid, torch-fidelity). Other than torchvision's Inception v3 it
does not count the padding of average pools, takes the maximum in the last block's pool, and has 1008 classes.

Letters: B pictures, C channels, h and w the sides of a feature map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 2048
CLASSES = 1008
Conv = tuple[str, int, int, int]
"""Name, channels out, height and width of the kernel."""
Branch = tuple[Conv | tuple[Conv, Conv], ...]
"""Convolutions one after the other; a pair at the end stands side by side."""


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, channels: int, out: int, kernel: tuple[int, int], *, stride: int = 1, pad: bool
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if pad else 0
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches side by side, and a pool: (B, C, h, w) -> the channels of all branches.

    Args:
        channels: of the input.
        branches: by name, in the order of their outputs.
        pool: channels of the convolution after the pool; None for a block that halves the sides: the last
            convolution of each branch and the pool have stride 2.
        pool_max: whether the pool of a block that keeps the sides takes the maximum.
    """

    def __init__(
        self, channels: int, branches: tuple[Branch, ...], *, pool: int | None, pool_max: bool = False
    ) -> None:
        super().__init__()
        self._branches, self._halves, self._pool_max = branches, pool is None, pool_max
        for branch in branches:
            width = channels
            for i, step in enumerate(branch):
                is_last = self._halves and i == len(branch) - 1
                for name, out, height, breadth in _convs(step):
                    conv = ConvNorm(
                        width, out, (height, breadth), stride=2 if is_last else 1, pad=not is_last
                    )
                    self.add_module(name, conv)
                width = out
        if pool is not None:
            self.branch_pool = ConvNorm(channels, pool, (1, 1), pad=False)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for branch in self._branches:
            y = x
            for step in branch:
                y = torch.cat([getattr(self, name)(y) for name, *_ in _convs(step)], 1)
            found.append(y)
        if self._halves:
            return torch.cat([*found, F.max_pool2d(x, 3, 2)], 1)
        if self._pool_max:
            pooled = F.max_pool2d(x, 3, 1, 1)
        else:
            pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat([*found, self.branch_pool(pooled)], 1)


def _convs(step: Conv | tuple[Conv, Conv]) -> tuple[Conv, ...]:
    return step if isinstance(step[0], tuple) else (step,)  # type: ignore[return-value]


def _a(channels: int, pool: int) -> Mixed:
    return Mixed(
        channels,
        (
            (("branch1x1", 64, 1, 1),),
            (("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 5)),
            (("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 3), ("branch3x3dbl_3", 96, 3, 3)),
        ),
        pool=pool,
    )


def _b() -> Mixed:
    return Mixed(
        288,
        (
            (("branch3x3", 384, 3, 3),),
            (("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 3), ("branch3x3dbl_3", 96, 3, 3)),
        ),
        pool=None,
    )


def _c(c7: int) -> Mixed:
    return Mixed(
        768,
        (
            (("branch1x1", 192, 1, 1),),
            (("branch7x7_1", c7, 1, 1), ("branch7x7_2", c7, 1, 7), ("branch7x7_3", 192, 7, 1)),
            (
                ("branch7x7dbl_1", c7, 1, 1), ("branch7x7dbl_2", c7, 7, 1), ("branch7x7dbl_3", c7, 1, 7),
                ("branch7x7dbl_4", c7, 7, 1), ("branch7x7dbl_5", 192, 1, 7),
            ),
        ),
        pool=192,
    )  # fmt: skip


def _d() -> Mixed:
    return Mixed(
        768,
        (
            (("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 3)),
            (
                ("branch7x7x3_1", 192, 1, 1), ("branch7x7x3_2", 192, 1, 7), ("branch7x7x3_3", 192, 7, 1),
                ("branch7x7x3_4", 192, 3, 3),
            ),
        ),
        pool=None,
    )  # fmt: skip


def _e(channels: int, *, pool_max: bool) -> Mixed:
    return Mixed(
        channels,
        (
            (("branch1x1", 320, 1, 1),),
            (("branch3x3_1", 384, 1, 1), (("branch3x3_2a", 384, 1, 3), ("branch3x3_2b", 384, 3, 1))),
            (
                ("branch3x3dbl_1", 448, 1, 1), ("branch3x3dbl_2", 384, 3, 3),
                (("branch3x3dbl_3a", 384, 1, 3), ("branch3x3dbl_3b", 384, 3, 1)),
            ),
        ),
        pool=192,
        pool_max=pool_max,
    )  # fmt: skip


class Inception(nn.Module):
    """The network, in eval mode and without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, (3, 3), stride=2, pad=False)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, (3, 3), pad=False)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, (3, 3), pad=True)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, (1, 1), pad=False)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, (3, 3), pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a = _b()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _c(128), _c(160), _c(160), _c(192)
        self.Mixed_7a = _d()
        self.Mixed_7b, self.Mixed_7c = _e(1280, pool_max=False), _e(2048, pool_max=True)
        self.fc = nn.Linear(FEATURES, CLASSES)  # its weights turn features into the Inception Score's classes
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 2048) of pixels (B, 3, 299, 299)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))  # (B, 192, 71, 71)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))  # (B, 288, 35, 35)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # (B, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        return x.mean((2, 3))
