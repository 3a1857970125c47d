"""VQGAN of taming-transformers and its relatives: pixels -> codes -> pixels.

Shapes: B batch, H = W = image_size, h = w = grid_size = image_size / 2**(len(ch_mult) - 1), E embed_dim.
Pixels are float (B, 3, H, W) in [-1, 1]; codes are int64 (B, h * w) in [0, codebook_size), in raster order.
Module names are those of the published checkpoints (Esser et al. 2021; taming-transformers,
`taming/modules`).
"""

import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.models.quantizer import Quantizer, QuantizerForm

NO_CODE = -1  # for a latent that is NaN or infinite, to which every entry would be the nearest


@dataclass(frozen=True, kw_only=True)
class VQGANConfig:
    """Geometry of a VQGAN; the defaults are f16_16384."""

    image_size: int = 256
    """Side of the square pictures, in pixels."""
    ch: int = 128
    """Channels of the first level."""
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Channels of each level, as multiples of `ch`; every level after the first halves the side."""
    num_res_blocks: int = 2
    """Residual blocks a level (the decoder has one more)."""
    attn_resolutions: tuple[int, ...] = (16,)
    """Sides at which self-attention follows each residual block."""
    z_channels: int = 256
    """Channels of the encoder's output."""
    embed_dim: int = 256
    """Width of a codebook entry."""
    codebook_size: int = 16384
    """Number of codebook entries."""
    quantizer: QuantizerForm = "nearest"
    """How a latent becomes a code (Quantizer)."""

    def __post_init__(self) -> None:
        # JSON knows no tuples; two configs of one geometry must be equal.
        object.__setattr__(self, "ch_mult", tuple(self.ch_mult))
        object.__setattr__(self, "attn_resolutions", tuple(self.attn_resolutions))
        for name in ("image_size", "ch", "num_res_blocks", "z_channels", "embed_dim", "codebook_size"):
            if not 0 < getattr(self, name) <= 65536:
                raise ValueError(f"vqgan.{name}: got {getattr(self, name)}, expected 1..65536")
        if self.quantizer not in get_args(QuantizerForm):
            known = ", ".join(get_args(QuantizerForm))
            raise ValueError(f"vqgan.quantizer: got {self.quantizer!r}, expected one of {known}")
        if not 1 <= len(self.ch_mult) <= 10 or min(self.ch_mult) < 1:
            raise ValueError(f"vqgan.ch_mult: got {self.ch_mult}, expected 1 to 10 positive multiples")
        if self.num_res_blocks > 64:
            raise ValueError(f"vqgan.num_res_blocks: got {self.num_res_blocks}, expected 1..64")
        if any(self.ch * m % 32 for m in self.ch_mult):
            raise ValueError(f"vqgan.ch: {self.ch} x {self.ch_mult} must be multiples of 32 (group norm)")
        if self.image_size % self.downsample:
            raise ValueError(
                f"vqgan.image_size: got {self.image_size}, expected a multiple of {self.downsample}"
            )

    def to_json(self) -> dict[str, Any]:
        """The section of config.json; without the quantizer if it is the nearest entry, as it always was."""
        section = dataclasses.asdict(self)
        if self.quantizer == "nearest":
            del section["quantizer"]
        return section

    @property
    def downsample(self) -> int:
        """Side of the square of pixels behind one code."""
        return 2 ** (len(self.ch_mult) - 1)

    @property
    def grid_size(self) -> int:
        """Side of the grid of codes."""
        return self.image_size // self.downsample

    @property
    def image_len(self) -> int:
        """Number of codes a picture."""
        return self.grid_size**2


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(num_groups=32, num_channels=channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions with group norm and SiLU before each, and a skip connection."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """Single-head self-attention over the positions of a feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = self.norm(x)
        q, k, v = (f(y).flatten(2).transpose(1, 2) for f in (self.q, self.k, self.v))  # (B, h*w, C)
        y = F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())  # scale C**-0.5
        return x + self.proj_out(y.transpose(1, 2).reshape(b, c, h, w))


class Downsample(nn.Module):
    """Half the side by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        # taming pads on the right and the bottom only
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the side by nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks of one side, each followed by attention where asked, then a change of side.

    Args:
        channels: of the input, then of each block's output.
        attention: whether attention follows each block.
        resample: published name and module of what changes the side, if anything does.
    """

    def __init__(
        self, channels: tuple[int, ...], *, attention: bool, resample: tuple[str, nn.Module] | None
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(a, b) for a, b in pairwise(channels))
        self.attn = nn.ModuleList(AttnBlock(c) for c in channels[1:] if attention)
        self._resample = resample[0] if resample else None
        if resample:
            self.add_module(*resample)

    def forward(self, h: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            h = block(h)
            if len(self.attn):
                h = self.attn[i](h)
        return getattr(self, self._resample)(h) if self._resample else h


class Middle(nn.Module):
    """Two residual blocks with attention between them, at the smallest side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttnBlock(channels)
        self.block_2 = ResnetBlock(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(h)))


class Encoder(nn.Module):
    """Pixels (B, 3, H, W) -> features (B, z_channels, h, w)."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths = [config.ch * m for m in config.ch_mult]
        self.conv_in = nn.Conv2d(3, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        previous = config.ch
        for i, width in enumerate(widths):
            side = config.image_size // 2**i
            blocks = (previous, *[width] * config.num_res_blocks)
            resample = ("downsample", Downsample(width)) if i + 1 < len(widths) else None
            self.down.append(Level(blocks, attention=side in config.attn_resolutions, resample=resample))
            previous = width
        self.mid = Middle(previous)
        self.norm_out = _norm(previous)
        self.conv_out = nn.Conv2d(previous, config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """Features (B, z_channels, h, w) -> pixels (B, 3, H, W)."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths = [config.ch * m for m in config.ch_mult]
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        levels: list[nn.Module] = []
        previous = widths[-1]
        for i in reversed(range(len(widths))):
            side = config.image_size // 2**i
            blocks = (previous, *[widths[i]] * (config.num_res_blocks + 1))
            resample = ("upsample", Upsample(widths[i])) if i > 0 else None
            level = Level(blocks, attention=side in config.attn_resolutions, resample=resample)
            levels.insert(0, level)  # up.0 is the largest side and runs last, as published
            previous = widths[i]
        self.up = nn.ModuleList(levels)
        self.norm_out = _norm(previous)
        self.conv_out = nn.Conv2d(previous, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class VQGAN(nn.Module):
    """Encoder, codebook and decoder, under the published state-dict names."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.memory_format: torch.memory_format | None = None
        """Layout that encoder and decoder are given, if not the one that comes."""
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Quantizer(config.codebook_size, config.embed_dim, config.quantizer)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    def latents(self, pixels: Tensor) -> Tensor:
        """What the quantizer sees: (B, 3, H, W) pixels in [-1, 1] -> (B, E, h, w)."""
        return self.quant_conv(self.encoder(self._laid_out(pixels.to(self.quant_conv.weight.dtype))))

    def _laid_out(self, x: Tensor) -> Tensor:
        return x if self.memory_format is None else x.contiguous(memory_format=self.memory_format)

    def encode(self, pixels: Tensor) -> Tensor:
        """Codes int64 (B, h * w) of pixels (B, 3, H, W) in [-1, 1]; NO_CODE where latents are not finite."""
        z = self.latents(pixels)
        flat = z.permute(0, 2, 3, 1).reshape(-1, self.config.embed_dim)  # (B*h*w, E)
        codes = self.quantize.codes(flat).view(z.shape[0], -1)  # (B, h*w)
        return codes.masked_fill(~z.isfinite().all(dim=1).flatten(1), NO_CODE)

    def decode_latents(self, z_q: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), not clipped, of quantised latents (B, E, h, w)."""
        return self.decoder(self.post_quant_conv(self._laid_out(z_q.to(self.post_quant_conv.weight.dtype))))

    def decode(self, codes: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), about [-1, 1] but not clipped, of codes (B, h * w)."""
        grid = self.config.grid_size
        z_q = self.quantize.embedding(codes).view(codes.shape[0], grid, grid, -1)  # (B, h, w, E)
        return self.decode_latents(z_q.permute(0, 3, 1, 2))
