"""VQGANs in the naming of other projects, each run by its tensors' own names: a reference for conversion.

The networks follow the public sources: taming-transformers `modules/diffusionmodules/model.py` (LDM,
Chameleon and IBQ use the same), LlamaGen `tokenizer_image/vq_model.py` (Janus the same), diffusers
`models/vae.py`. Weights come into being at the first pass, by formula from their names, so that a state dict
needs no list of names. Nothing here uses painter_core.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.golden.formula import fill


@dataclass(kw_only=True)
class Sizes:
    """Of a tiny network."""

    image_size: int = 32
    ch: int = 32
    ch_mult: tuple[int, ...] = (1, 1, 2)
    num_res_blocks: int = 1
    attended: tuple[int, ...] = (2,)
    """Levels with attention after each block."""
    z_channels: int = 16
    embed_dim: int = 8
    codebook_size: int = 64


@dataclass(kw_only=True)
class Naming:
    """Names of a family's parts: levels by their number in the order in which each side runs them."""

    block: Callable[[str, int, int], str]
    attention: Callable[[str, int, int], str]
    resample: Callable[[str, int], str]
    middle: Callable[[str, int], str]
    norm_out: str = "norm_out"
    shortcut: str = "nin_shortcut"
    layers: tuple[str, str, str, str, str] = ("norm", "q", "k", "v", "proj_out")
    linear: bool = False
    """Whether attention's weights are those of linear layers."""


def taming(levels: int) -> Naming:
    """The decoder's levels are kept in the order of the encoder's."""

    def at(side: str, i: int) -> str:
        return f"encoder.down.{i}" if side == "encoder" else f"decoder.up.{levels - 1 - i}"

    return Naming(
        block=lambda side, i, j: f"{at(side, i)}.block.{j}",
        attention=lambda side, i, j: f"{at(side, i)}.attn.{j}",
        resample=lambda side, i: f"{at(side, i)}.{'down' if side == 'encoder' else 'up'}sample.conv",
        middle=lambda side, k: f"{side}.mid.{('block_1', 'attn_1', 'block_2')[k]}",
    )


def llamagen(levels: int) -> Naming:
    return Naming(
        block=lambda side, i, j: f"{side}.conv_blocks.{i}.res.{j}",
        attention=lambda side, i, j: f"{side}.conv_blocks.{i}.attn.{j}",
        resample=lambda side, i: f"{side}.conv_blocks.{i}.{'down' if side == 'encoder' else 'up'}sample.conv",
        middle=lambda side, k: f"{side}.mid.{k}",
    )


def diffusers(levels: int) -> Naming:
    def at(side: str, i: int) -> str:
        return f"{side}.{'down' if side == 'encoder' else 'up'}_blocks.{i}"

    return Naming(
        block=lambda side, i, j: f"{at(side, i)}.resnets.{j}",
        attention=lambda side, i, j: f"{at(side, i)}.attentions.{j}",
        resample=lambda side, i: f"{at(side, i)}.{'down' if side == 'encoder' else 'up'}samplers.0.conv",
        middle=lambda side, k: f"{side}.mid_block.{('resnets.0', 'attentions.0', 'resnets.1')[k]}",
        norm_out="conv_norm_out",
        shortcut="conv_shortcut",
        layers=("group_norm", "to_q", "to_k", "to_v", "to_out.0"),
        linear=True,
    )


@dataclass(kw_only=True)
class Reference:
    """A VQGAN up to its quantizer, and from it on."""

    sizes: Sizes
    naming: Naming
    state: dict[str, Tensor] = field(default_factory=dict)

    def _weight(self, name: str, *shape: int) -> Tensor:
        if name not in self.state:
            self.state[name] = torch.from_numpy(fill(name, shape))
        assert self.state[name].shape == shape, name
        return self.state[name]

    def _conv(self, name: str, x: Tensor, out: int, *, side: int = 3, stride: int = 1) -> Tensor:
        weight = self._weight(f"{name}.weight", out, x.shape[1], side, side)
        padding = side // 2 if stride == 1 else 0
        return F.conv2d(x, weight, self._weight(f"{name}.bias", out), stride=stride, padding=padding)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weights = (self._weight(f"{name}.{kind}", x.shape[1]) for kind in ("weight", "bias"))
        return F.group_norm(x, 32, *weights, eps=1e-6)

    def _swish(self, name: str, x: Tensor) -> Tensor:
        x = self._norm(name, x)
        return x * torch.sigmoid(x)

    def _block(self, name: str, x: Tensor, out: int) -> Tensor:
        h = self._conv(f"{name}.conv1", self._swish(f"{name}.norm1", x), out)
        h = self._conv(f"{name}.conv2", self._swish(f"{name}.norm2", h), out)
        return h + (x if x.shape[1] == out else self._conv(f"{name}.{self.naming.shortcut}", x, out, side=1))

    def _product(self, name: str, x: Tensor) -> Tensor:
        if not self.naming.linear:
            return self._conv(name, x, x.shape[1], side=1)
        weight = self._weight(f"{name}.weight", x.shape[1], x.shape[1])
        return (x.movedim(1, 3) @ weight.T + self._weight(f"{name}.bias", x.shape[1])).movedim(3, 1)

    def _attention(self, name: str, x: Tensor) -> Tensor:
        norm, *inputs, out = self.naming.layers
        h = self._norm(f"{name}.{norm}", x)
        q, k, v = (self._product(f"{name}.{layer}", h).flatten(2) for layer in inputs)  # (B, C, h*w)
        weights = torch.softmax(q.transpose(1, 2) @ k * x.shape[1] ** -0.5, dim=2)
        return x + self._product(f"{name}.{out}", (v @ weights.transpose(1, 2)).view_as(x))

    def _middle(self, side: str, x: Tensor) -> Tensor:
        x = self._block(self.naming.middle(side, 0), x, x.shape[1])
        x = self._attention(self.naming.middle(side, 1), x)
        return self._block(self.naming.middle(side, 2), x, x.shape[1])

    def _level(self, side: str, i: int, level: int, x: Tensor, blocks: int) -> Tensor:
        for j in range(blocks):
            x = self._block(self.naming.block(side, i, j), x, self.sizes.ch * self.sizes.ch_mult[level])
            if level in self.sizes.attended:
                x = self._attention(self.naming.attention(side, i, j), x)
        return x

    def latents(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> what the quantizer sees, (B, h * w, E)."""
        sizes, last = self.sizes, len(self.sizes.ch_mult) - 1
        x = self._conv("encoder.conv_in", pixels, sizes.ch)
        for i in range(last + 1):
            x = self._level("encoder", i, i, x, sizes.num_res_blocks)
            if i < last:
                x = self._conv(
                    self.naming.resample("encoder", i), F.pad(x, (0, 1, 0, 1)), x.shape[1], stride=2
                )
        x = self._swish(f"encoder.{self.naming.norm_out}", self._middle("encoder", x))
        z = self._conv(
            "quant_conv", self._conv("encoder.conv_out", x, sizes.z_channels), sizes.embed_dim, side=1
        )
        return z.flatten(2).transpose(1, 2)

    def picture(self, entries: Tensor) -> Tensor:
        """Entries of the codebook (B, h * w, E) -> (B, 3, H, W)."""
        sizes, last = self.sizes, len(self.sizes.ch_mult) - 1
        grid = sizes.image_size // 2**last
        x = entries.transpose(1, 2).reshape(-1, sizes.embed_dim, grid, grid)
        x = self._conv(
            "decoder.conv_in",
            self._conv("post_quant_conv", x, sizes.z_channels, side=1),
            sizes.ch * sizes.ch_mult[last],
        )
        x = self._middle("decoder", x)
        for i in range(last + 1):
            x = self._level("decoder", i, last - i, x, sizes.num_res_blocks + 1)
            if i < last:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
                x = self._conv(self.naming.resample("decoder", i), x, x.shape[1])
        return self._conv("decoder.conv_out", self._swish(f"decoder.{self.naming.norm_out}", x), 3)

    def fill_state(self) -> dict[str, Tensor]:
        """All weights but the quantizer's."""
        sizes = self.sizes
        with torch.no_grad():
            z = self.latents(torch.zeros(1, 3, sizes.image_size, sizes.image_size))
            self.picture(z)
        return self.state
