"""Foreign checkpoint files: tensors of EasyNLP or taming-transformers, sorted by prefix, in float32."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from painter_core.model_files.pickles import load_pickle

WEIGHTS = "pytorch_model.bin"
VQGAN_PREFIX, GPT_PREFIX = "first_stage_model.", "transformer."  # EasyNLP's; taming's names bear none
LOSS = ("loss.", VQGAN_PREFIX + "loss.")  # discriminator and perceptual loss of the VQGAN's training
VQGAN_PARTS = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")
MASK = re.compile(r"blocks\.\d+\.attn\.mask")


@dataclass(kw_only=True)
class Foreign:
    """The tensors of a foreign checkpoint in float32, under our names."""

    vqgan: dict[str, Tensor] = field(default_factory=dict)
    gpt: dict[str, Tensor] = field(default_factory=dict)
    report: list[str] = field(default_factory=list)
    """What was mapped, cast and left out; later also what was assumed."""


def read_foreign(file: Path) -> Foreign:
    """Opens a file and sorts its tensors into those of a VQGAN and of a GPT.

    Raises:
        ValueError: the file is refused, damaged, or holds tensors of something else.
    """
    foreign = Foreign()
    num_masks = num_loss = 0
    strange = []
    for name, tensor in load_pickle(file).items():
        name = name.removeprefix("module.")
        if name.startswith(LOSS):
            num_loss += 1
            continue
        is_gpt = name.startswith(GPT_PREFIX)
        inner = name.removeprefix(GPT_PREFIX if is_gpt else VQGAN_PREFIX)
        state = foreign.gpt if is_gpt else foreign.vqgan
        if is_gpt and MASK.fullmatch(inner):
            _check_mask(file, name, tensor)
            num_masks += 1
        elif not is_gpt and not inner.startswith(VQGAN_PARTS):
            strange.append(name)
        elif inner in state:
            raise ValueError(f"{file}: {inner} stands there twice, with and without a prefix")
        else:
            state[inner] = tensor
    if strange:
        raise ValueError(f"{file}: {len(strange)} unexpected tensors: {', '.join(strange[:10])}")
    if "ent_emb.weight" in foreign.gpt:
        raise ValueError(f"{file}: a knowledge-enhanced model ({GPT_PREFIX}ent_emb): it is not supported")
    foreign.report.append(
        f"{file.name}: {len(foreign.vqgan)} tensors of the VQGAN and {len(foreign.gpt)} of the GPT mapped; "
        f"left out: {num_masks} attention masks (all causal), {num_loss} of loss.* (used in the VQGAN's "
        "training only)"
    )
    foreign.vqgan, foreign.gpt = (_float32(file, s, foreign.report) for s in (foreign.vqgan, foreign.gpt))
    return foreign


def _check_mask(file: Path, name: str, mask: Tensor) -> None:
    side = mask.shape[-1] if mask.dim() else 0
    square = mask.shape == (1, 1, side, side)
    if not square or not torch.equal(mask[0, 0] != 0, torch.ones(side, side).tril() != 0):
        raise ValueError(
            f"{file}: {name} is no causal mask: text attends to later text in this model (n_unmasked above "
            "0), which is not supported"
        )


def _float32(file: Path, state: dict[str, Tensor], report: list[str]) -> dict[str, Tensor]:
    """Float32 stays as it is, other floats are cast; anything else is an error."""
    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided:
            raise ValueError(f"{file}: {name} is {tensor.dtype} {tensor.layout}, expected dense floats")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{file}: {name} holds values that are not finite; the checkpoint is damaged")
    kinds = Counter(str(t.dtype).removeprefix("torch.") for t in state.values() if t.dtype != torch.float32)
    report += [
        f"{file.name}: {count} tensors cast from {kind} to float32" for kind, count in sorted(kinds.items())
    ]
    return {name: tensor.detach().to(torch.float32).contiguous() for name, tensor in state.items()}
