"""Foreign checkpoints: the tensors of a VQGAN and of EasyNLP's GPT, under our names and in float32."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from painter_core.model_files.checkpoint_file import Checkpoint
from painter_core.model_files.easynlp_captioner import CLIP_FORM
from painter_core.model_files.foreign_vqgan import LIT_EMA, ForeignVQGAN, read_tensors, read_vqgan
from painter_core.model_files.pickles import AVERAGED

VQGAN_PREFIX, GPT_PREFIX = "first_stage_model.", "transformer."  # EasyNLP's; taming's names bear none
JANUS = "gen_vision_model."  # the VQGAN within Janus, a language model
LOSS = ("loss.", VQGAN_PREFIX + "loss.")  # discriminator and perceptual loss of the VQGAN's training
MASK = re.compile(r"blocks\.\d+\.attn\.mask")


@dataclass(kw_only=True)
class Foreign:
    """The tensors of a foreign checkpoint in float32, under our names."""

    vqgan: ForeignVQGAN | None = None
    is_janus: bool = False
    """Whether the VQGAN was found within Janus."""
    gpt: dict[str, Tensor] = field(default_factory=dict)
    report: list[str] = field(default_factory=list)
    """What was mapped, renamed, cast and left out; later also what was assumed."""


def wanted(names: Iterable[str]) -> list[str]:
    """The names of a checkpoint that are needed here: for Janus only its VQGAN's, else all."""
    names = list(names)
    return [name for name in names if _unwrapped(name).startswith(JANUS)] or names


def read_foreign(file: Path, *, no_ema: bool = False) -> Foreign:
    """Opens a checkpoint and sorts its tensors into those of a VQGAN and of a GPT.

    Args:
        file: weights, or an index of shards.
        no_ema: takes the weights themselves where there are averaged ones beside them.

    Raises:
        ValueError: a file is refused or damaged, or holds tensors of something else.
    """
    checkpoint, foreign = Checkpoint(file), Foreign()
    names = wanted(checkpoint.names)
    foreign.is_janus = _unwrapped(names[0]).startswith(JANUS)
    gpt: dict[str, str] = {}  # name without prefix -> name in the file
    vqgan: dict[str, str] = {}
    averaged: dict[str, str] = {}
    num_masks = num_loss = 0
    for original in names:
        name = _unwrapped(original)
        is_gpt = name.startswith(GPT_PREFIX)
        inner = name.removeprefix(GPT_PREFIX if is_gpt else VQGAN_PREFIX).removeprefix(JANUS)
        state = gpt if is_gpt else averaged if name.startswith((LIT_EMA, AVERAGED)) else vqgan
        if name.startswith(LOSS):
            num_loss += 1
        elif is_gpt and MASK.fullmatch(inner):
            _check_mask(file, name, checkpoint.read([original])[original])
            num_masks += 1
        elif inner in state:
            raise ValueError(f"{file}: {inner} stands there twice, with and without a prefix")
        else:
            state[inner] = original
    if "ent_emb.weight" in gpt:
        raise ValueError(f"{file}: a knowledge-enhanced model ({GPT_PREFIX}ent_emb): it is not supported")
    if gpt and "class_embedding" in vqgan:
        raise ValueError(f"{file}: {VQGAN_PREFIX}class_embedding is of a CLIP: {CLIP_FORM}")
    rest = len(checkpoint.names) - len(names)
    foreign.report.append(
        f"{file.name}: {len(vqgan)} tensors of the VQGAN and {len(gpt)} of the GPT; left out: {num_masks} "
        f"attention masks (all causal), {num_loss} of loss.* (used in the VQGAN's training only)"
        + (f", {rest} of the language model around the VQGAN" if rest else "")
    )
    foreign.gpt = read_tensors(checkpoint, gpt, foreign.report)
    if vqgan:
        foreign.vqgan = read_vqgan(checkpoint, vqgan, averaged, no_ema=no_ema, report=foreign.report)
    elif averaged or no_ema:
        raise ValueError(f"{file}: {'averaged weights' if averaged else '--no-ema'} without a VQGAN")
    return foreign


def _unwrapped(name: str) -> str:
    """A name without what DistributedDataParallel and torch.compile put into it."""
    if name.startswith(AVERAGED):
        return AVERAGED + _unwrapped(name.removeprefix(AVERAGED))
    name = name.replace("_orig_mod.", "")  # also in the middle, where a part was compiled
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _check_mask(file: Path, name: str, mask: Tensor) -> None:
    side = mask.shape[-1] if mask.dim() else 0
    square = mask.shape == (1, 1, side, side)
    if not square or not torch.equal(mask[0, 0] != 0, torch.ones(side, side).tril() != 0):
        raise ValueError(
            f"{file}: {name} is no causal mask: text attends to later text in this model (n_unmasked above "
            "0), which is not supported"
        )
