"""Sizes of a foreign VQGAN and GPT, read from the shapes of their tensors and compared with their config.

Names are the published ones without prefix. Shapes cannot tell the side of the pictures, the number of heads
and where text ends and codes begin: these come from a flag, from the config, or are EasyNLP's defaults, and
the report says which.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from painter_core.models.gpt import GPTConfig
from painter_core.models.quantizer import QuantizerForm
from painter_core.models.vqgan import VQGANConfig

Shapes = Mapping[str, list[int]]

EASYNLP_IMAGE_SIZE, EASYNLP_N_HEAD = 256, 12
MOST_ENTRIES = 2**16  # codes are uint16 wherever they are kept

_VQGAN_BLOCK = re.compile(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight")
_GPT_BLOCK = re.compile(r"blocks\.(\d+)\.ln1\.weight")
# config.json of EasyNLP -> what it must equal; an absent key is not compared
_EASYNLP_KEYS = {
    "n_layer": "n_layer",
    "n_embd": "n_embd",
    "block_size": "block_size",
    "vocab_size": "vocab_size",
    "img_vocab_size": "codebook_size",
    "text_vocab_size": "text_vocab_size",
}


def vqgan_geometry(shapes: Shapes, image_size: int, quantizer: QuantizerForm = "nearest") -> VQGANConfig:
    """The geometry of a VQGAN for pictures of one size.

    Raises:
        ValueError: a tensor that it is read from is missing or has no possible size.
    """
    ch, in_channels = _shape(shapes, "encoder.conv_in.weight", 4)[:2]
    if in_channels != 3:
        raise ValueError(f"encoder.conv_in.weight reads {in_channels} channels, expected 3 (RGB)")
    blocks = _blocks_of_levels(shapes)
    widths = [_shape(shapes, f"encoder.down.{i}.block.0.conv1.weight", 4)[0] for i in range(len(blocks))]
    if any(width % ch for width in widths):
        raise ValueError(f"widths of the encoder's levels are {widths}, expected multiples of {ch}")
    attended = [i for i in range(len(blocks)) if f"encoder.down.{i}.attn.0.q.weight" in shapes]
    codebook_size, embed_dim = _shape(shapes, "quantize.embedding.weight", 2)
    if codebook_size > MOST_ENTRIES:
        raise ValueError(
            f"a codebook of {codebook_size:,} entries: codes are kept in 16 bits here, so {MOST_ENTRIES:,} "
            "are the most; take the same tokenizer with a smaller codebook, if there is one"
        )
    return VQGANConfig(
        image_size=image_size,
        ch=ch,
        ch_mult=tuple(width // ch for width in widths),
        num_res_blocks=blocks[0],
        attn_resolutions=tuple(image_size // 2**i for i in attended),
        z_channels=_shape(shapes, "encoder.conv_out.weight", 4)[0],
        embed_dim=embed_dim,
        codebook_size=codebook_size,
        quantizer=quantizer,
    )


def _blocks_of_levels(shapes: Shapes) -> list[int]:
    """Number of residual blocks of each of the encoder's levels."""
    found: dict[int, int] = {}
    for name in shapes:
        if match := _VQGAN_BLOCK.fullmatch(name):
            found[int(match[1])] = found.get(int(match[1]), 0) + 1
    if sorted(found) != list(range(len(found))) or not 1 <= len(found) <= 16:
        raise ValueError(
            f"levels of the encoder are {sorted(found)[:16]}: this is no VQGAN of taming-transformers"
        )
    return [found[i] for i in range(len(found))]


def gpt_geometry(shapes: Shapes, *, n_head: int, image_len: int) -> GPTConfig:
    """The geometry of a GPT; text takes the positions that the codes leave.

    Raises:
        ValueError: a tensor that it is read from is missing or has no possible size.
    """
    vocab_size, n_embd = _shape(shapes, "tok_emb.weight", 2)
    codebook_size = _shape(shapes, "head.weight", 2)[0]
    return GPTConfig(
        text_vocab_size=vocab_size - codebook_size,
        codebook_size=codebook_size,
        text_len=_positions(shapes) - image_len,
        image_len=image_len,
        n_layer=sum(_GPT_BLOCK.fullmatch(name) is not None for name in shapes),
        n_head=n_head,
        n_embd=n_embd,
    )


def _positions(shapes: Shapes) -> int:
    return _shape(shapes, "pos_emb", 3)[1]


def _shape(shapes: Shapes, name: str, rank: int) -> list[int]:
    if name not in shapes:
        raise ValueError(f"tensor {name} is missing, among {len(shapes)} tensors")
    if len(shapes[name]) != rank or 0 in shapes[name]:
        raise ValueError(f"tensor {name} has shape {shapes[name]}, expected {rank} dimensions")
    return shapes[name]


def easynlp_image_size(
    vqgan: Shapes, gpt: Shapes, *, image_size: int | None, text_len: int | None, report: list[str]
) -> int:
    """Side of the pictures of an EasyNLP model: a flag, what --text-len leaves, or EasyNLP's default."""
    if image_size is not None:
        return image_size
    if text_len is None:
        report.append(
            f"image_size {EASYNLP_IMAGE_SIZE}: EasyNLP's default, in no tensor (other: --image-size)"
        )
        return EASYNLP_IMAGE_SIZE
    grid = math.isqrt(max(0, _positions(gpt) - text_len))
    return grid * 2 ** (len(_blocks_of_levels(vqgan)) - 1)


def easynlp_gpt(
    spec: Mapping[str, Any],
    shapes: Shapes,
    vqgan: VQGANConfig,
    *,
    n_head: int | None,
    text_len: int | None,
    report: list[str],
) -> GPTConfig:
    """The geometry of an EasyNLP model's GPT, compared with config.json and with the VQGAN.

    Raises:
        ValueError: lists everything that contradicts.
    """
    easynlp_text_len(_positions(shapes), vqgan, text_len, report)
    heads = easynlp_heads(spec, n_head, report)
    gpt = gpt_geometry(shapes, n_head=heads, image_len=vqgan.image_len)
    _check_easynlp_config(spec, gpt)
    if gpt.codebook_size != vqgan.codebook_size:
        raise ValueError(f"the GPT writes {gpt.codebook_size} codes, the VQGAN has {vqgan.codebook_size}")
    if dropout := {k: v for k, v in spec.items() if k.endswith("_pdrop") and v}:
        report.append(f"config.json: {dropout} left out; this GPT trains without dropout")
    return gpt


def easynlp_text_len(positions: int, vqgan: VQGANConfig, text_len: int | None, report: list[str]) -> int:
    """Positions that the codes leave for text; ValueError if there are none, or others than a flag says."""
    found = positions - vqgan.image_len
    if found < 1 or text_len not in (None, found):
        raise ValueError(
            f"{positions} positions: the {vqgan.image_len} codes of a picture of {vqgan.image_size} pixels "
            f"leave {found} for text{f', not --text-len {text_len}' if text_len else ''}; give --image-size"
        )
    report.append(f"text_len {found}: {positions} positions less {vqgan.image_len} codes")
    return found


def easynlp_heads(spec: Mapping[str, Any], n_head: int | None, report: list[str]) -> int:
    """Attention heads: a flag, what config.json says, or EasyNLP's default; ValueError if they contradict."""
    stated = spec.get("n_head")
    if n_head is not None and stated not in (None, n_head):
        raise ValueError(f"--n-head {n_head}: config.json says n_head {stated}")
    if n_head is None and stated is None:
        report.append(
            f"n_head {EASYNLP_N_HEAD}: EasyNLP's default, in no tensor and not in config.json (other: "
            "--n-head)"
        )
    heads = n_head or stated or EASYNLP_N_HEAD
    if not isinstance(heads, int):
        raise ValueError(f"config.json: n_head is {heads!r}, expected a number")
    return heads


def _check_easynlp_config(spec: Mapping[str, Any], gpt: GPTConfig) -> None:
    if spec.get("model_type") != "artist":
        raise ValueError(f"config.json: model_type is {spec.get('model_type')!r}, expected 'artist'")
    if spec.get("n_unmasked", 0) != 0:
        raise ValueError(
            f"config.json: n_unmasked is {spec['n_unmasked']}: text attends to later text in this model, "
            "which is not supported"
        )
    differing = [
        f"{theirs} is {spec[theirs]}, the tensors say {getattr(gpt, ours)}"
        for theirs, ours in _EASYNLP_KEYS.items()
        if theirs in spec and spec[theirs] != getattr(gpt, ours)
    ]
    if differing:
        raise ValueError("config.json belongs to another model: " + "; ".join(differing))
