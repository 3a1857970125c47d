"""Chinese CLIP (OFA-Sys; a Vision Transformer and a BERT): pictures and captions -> vectors of one space.

Module names are those of transformers' ChineseCLIPModel. Letters: B rows, T positions, D width, P
projection_dim.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEXT_LEN = 52  # positions of a caption, [CLS] and [SEP] among them: as all published models are trained
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
Activation = Literal["gelu", "quick_gelu"]


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """Geometry of one of the two Transformers."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: Activation
    layer_norm_eps: float

    def __post_init__(self) -> None:
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected 1 or more")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size: got {self.hidden_size}, expected a multiple of its "
                f"{self.num_attention_heads} heads"
            )


@dataclass(frozen=True, kw_only=True)
class ChineseCLIPConfig:
    """Geometry of both towers."""

    vision: TowerConfig
    text: TowerConfig
    image_size: int
    patch_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    projection_dim: int

    def __post_init__(self) -> None:
        if not 0 < self.patch_size <= self.image_size:
            raise ValueError(f"patch_size: got {self.patch_size}, expected 1..{self.image_size}")
        if self.max_position_embeddings < TEXT_LEN:
            raise ValueError(
                f"max_position_embeddings: got {self.max_position_embeddings}, expected {TEXT_LEN} or more"
            )


def _activate(x: Tensor, name: Activation) -> Tensor:
    return x * torch.sigmoid(1.702 * x) if name == "quick_gelu" else F.gelu(x)


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int, seen: Tensor | None = None) -> Tensor:
    """(B, T, D) each -> (B, T, D); `seen`: bool (B, 1, 1, T), the positions that may be attended."""
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, T, D/heads)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)


class VisionLayer(nn.Module):
    """Pre-norm block."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width, inner, self.config = config.hidden_size, config.intermediate_size, config
        names = ("k_proj", "v_proj", "q_proj", "out_proj")
        self.self_attn = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        attn, mlp, y = self.self_attn, self.mlp, self.layer_norm1(x)
        q, k, v = (attn[name](y) for name in ("q_proj", "k_proj", "v_proj"))
        x = x + attn["out_proj"](_attention(q, k, v, self.config.num_attention_heads))
        return x + mlp["fc2"](_activate(mlp["fc1"](self.layer_norm2(x)), self.config.hidden_act))


class VisionTower(nn.Module):
    """Normalised pixels (B, 3, S, S) -> (B, D), the class token of the last layer."""

    def __init__(self, config: ChineseCLIPConfig) -> None:
        super().__init__()
        width, patch = config.vision.hidden_size, config.patch_size
        positions = (config.image_size // patch) ** 2 + 1
        self.embeddings = nn.ModuleDict(
            {
                "patch_embedding": nn.Conv2d(3, width, patch, patch, bias=False),
                "position_embedding": nn.Embedding(positions, width),
            }
        )
        self.embeddings.register_parameter("class_embedding", nn.Parameter(torch.zeros(width)))
        self.pre_layrnorm = nn.LayerNorm(width, eps=config.vision.layer_norm_eps)  # spelt so in every file
        layers = [VisionLayer(config.vision) for _ in range(config.vision.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.post_layernorm = nn.LayerNorm(width, eps=config.vision.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        parts = self.embeddings
        patches = parts["patch_embedding"](pixels).flatten(2).transpose(1, 2)  # (B, T - 1, D)
        first = parts.get_parameter("class_embedding").expand(len(pixels), 1, -1)
        x = torch.cat((first, patches), 1) + parts.get_parameter("position_embedding.weight")  # (B, T, D)
        x = self.pre_layrnorm(x)
        for layer in self.encoder["layers"].children():
            x = layer(x)
        return self.post_layernorm(x[:, 0])


def _dense_norm(width: int, config: TowerConfig) -> nn.ModuleDict:
    """Back to D channels, and the norm after the sum."""
    out = config.hidden_size
    norm = nn.LayerNorm(out, eps=config.layer_norm_eps)
    return nn.ModuleDict({"dense": nn.Linear(width, out), "LayerNorm": norm})


class TextAttention(nn.Module):
    """Multi-head attention over the tokens of a caption, with its residual and norm."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width, self.num_heads = config.hidden_size, config.num_attention_heads
        names = ("query", "key", "value")
        self.self = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        self.output = _dense_norm(width, config)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        q, k, v = (self.self[name](x) for name in ("query", "key", "value"))
        mixed = _attention(q, k, v, self.num_heads, seen)
        return self.output["LayerNorm"](x + self.output["dense"](mixed))


class TextLayer(nn.Module):
    """BERT's post-norm block."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.attention = TextAttention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = _dense_norm(config.intermediate_size, config)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        x = self.attention(x, seen)
        inner = _activate(self.intermediate["dense"](x), self.config.hidden_act)
        return self.output["LayerNorm"](x + self.output["dense"](inner))


class TextTower(nn.Module):
    """Ids (B, T), 0 after the end -> (B, D), the first token of the last layer."""

    def __init__(self, config: ChineseCLIPConfig) -> None:
        super().__init__()
        width = config.text.hidden_size
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(config.vocab_size, width),
                "position_embeddings": nn.Embedding(config.max_position_embeddings, width),
                "token_type_embeddings": nn.Embedding(config.type_vocab_size, width),
                "LayerNorm": nn.LayerNorm(width, eps=config.text.layer_norm_eps),
            }
        )
        layers = [TextLayer(config.text) for _ in range(config.text.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, ids: Tensor) -> Tensor:
        parts, seen = self.embeddings, (ids != 0)[:, None, None]
        x = (
            parts["word_embeddings"](ids) + parts.get_parameter("token_type_embeddings.weight")[0]
        )  # (B, T, D)
        x = parts["LayerNorm"](x + parts.get_parameter("position_embeddings.weight")[: ids.shape[1]])
        for layer in self.encoder["layer"].children():
            x = layer(x, seen)
        return x[:, 0]


class ChineseCLIP(nn.Module):
    """Both towers and their projections, in eval mode and without gradients."""

    def __init__(self, config: ChineseCLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionTower(config)
        self.text_model = TextTower(config)
        self.visual_projection = nn.Linear(config.vision.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))  # for training; of no part in a cosine
        self.requires_grad_(False).eval()

    def embed_images(self, pixels: Tensor) -> Tensor:
        """uint8 (B, S, S, 3) -> (B, P), of length 1."""
        mean, deviation = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (MEAN, DEVIATION))
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / deviation
        return F.normalize(self.visual_projection(self.vision_model(x)), dim=1)

    def embed_texts(self, ids: Tensor) -> Tensor:
        """Ids (B, T) with [CLS], [SEP] and 0 after them -> (B, P), of length 1."""
        return F.normalize(self.text_projection(self.text_model(ids)), dim=1)
