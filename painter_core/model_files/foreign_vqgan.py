"""The VQGAN of a foreign checkpoint: its family, its averaged weights, its tensors under our names."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from painter_core.model_files.checkpoint_file import Checkpoint, to_float32
from painter_core.model_files.families import DIFFUSERS, GUMBEL, LLAMAGEN, Family, recognise
from painter_core.model_files.pickles import AVERAGED

LIT_EMA = "model_ema."  # averaged weights of LDM and IBQ: under names without dots
# names among averaged weights that are not the VQGAN's
_NOT_AVERAGED = re.compile(r"model_ema\.(decay|num_updates|loss\w*)|ema\.(loss\..*|quantize\.codebook_used)")


@dataclass(frozen=True, kw_only=True)
class ForeignVQGAN:
    """A VQGAN's tensors in float32, under our names."""

    tensors: dict[str, Tensor]
    family: Family
    has_lit_ema: bool
    """Whether averaged weights of LDM's or IBQ's kind are beside them."""

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shape of each tensor."""
        return {name: list(tensor.shape) for name, tensor in self.tensors.items()}


def read_vqgan(
    checkpoint: Checkpoint,
    names: Mapping[str, str],
    averaged: Mapping[str, str],
    *,
    no_ema: bool,
    report: list[str],
) -> ForeignVQGAN:
    """Recognises a VQGAN and reads it.

    Args:
        names: without prefixes -> in the file.
        averaged: the same for averaged weights, which are taken unless no_ema says otherwise.
        report: gets a line for what was recognised, renamed, cast, normalised and left out.

    Raises:
        ValueError: the names are of no family, or of two; or a tensor is not what it should be.
    """
    try:
        family, ours = recognise(names)
        chosen = {} if no_ema else _averaged(ours, averaged)
    except ValueError as error:
        raise ValueError(f"{checkpoint.file}: {error}") from None
    report.append(f"recognised by the names of its tensors ({family.marker}*): {family.title}")
    if dropped := sorted(set(names) - set(ours.values())):
        report.append(f"left out, of use in training only: {', '.join(dropped)}")
    if renamed := [name for name, theirs in ours.items() if name != theirs]:
        report.append(f"{len(renamed)} tensors renamed, such as {ours[renamed[0]]} to {renamed[0]}")
    if no_ema and not averaged:
        raise ValueError(
            f"{checkpoint.file}: --no-ema: there are no averaged weights that it could leave out"
        )
    plain = {name: names[theirs] for name, theirs in ours.items()}
    if averaged:
        plainly, averagely = (
            "the weights beside them, as --no-ema says",
            "the averaged ones (other: --no-ema)",
        )
        what = plainly if no_ema else averagely
        report.append(f"{len(averaged)} averaged weights stand beside the others; taken: {what}")
    _check_shapes(checkpoint, plain, chosen)
    tensors = read_tensors(checkpoint, chosen or plain, report)
    tensors = {name: _as_ours(family, name, tensor) for name, tensor in tensors.items()}
    if family is LLAMAGEN:
        _normalise(checkpoint, tensors, report)
    if family is GUMBEL:
        report.append(
            "codes are the arg-max of the projection; taming-transformers itself adds Gumbel noise to it, so "
            "that its own codes of a picture differ from one time to the next"
        )
    return ForeignVQGAN(
        tensors=tensors, family=family, has_lit_ema=any(name.startswith(LIT_EMA) for name in averaged)
    )


def _averaged(ours: Mapping[str, str], averaged: Mapping[str, str]) -> dict[str, str]:
    """Our name -> averaged weights' name in the file; empty if there are none."""
    if not averaged:
        return {}
    names = {
        name: theirs if (theirs := f"{AVERAGED}{plain}") in averaged else LIT_EMA + plain.replace(".", "")
        for name, plain in ours.items()
    }
    if missing := [ours[name] for name, theirs in names.items() if theirs not in averaged]:
        raise ValueError(
            f"averaged weights stand beside the others, but {len(missing)} are missing, {missing[0]} the "
            "first; to leave them out, give --no-ema"
        )
    known = set(names.values())
    if strange := [n for n in averaged if n not in known and not _NOT_AVERAGED.fullmatch(n)]:
        raise ValueError(f"{len(strange)} unexpected tensors: {', '.join(strange[:10])}")
    return {name: averaged[theirs] for name, theirs in names.items()}


def _check_shapes(checkpoint: Checkpoint, plain: Mapping[str, str], averaged: Mapping[str, str]) -> None:
    for name, theirs in averaged.items():
        shapes = [list(checkpoint.read([n])[n].shape) for n in (theirs, plain[name])]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{checkpoint.file}: {theirs} {shapes[0]} is not the average of {plain[name]} {shapes[1]}"
            )


def read_tensors(checkpoint: Checkpoint, names: Mapping[str, str], report: list[str]) -> dict[str, Tensor]:
    """Our name -> the tensor in float32, of the tensors with the given names in the file."""
    found = checkpoint.read(names.values())
    kinds = Counter(str(t.dtype).removeprefix("torch.") for t in found.values())
    report += [
        f"{checkpoint.file.name}: {count} tensors cast from {kind} to float32"
        for kind, count in sorted(kinds.items())
        if kind != "float32"
    ]
    return {
        name: to_float32(f"{checkpoint.file}: {theirs}", found.pop(theirs)) for name, theirs in names.items()
    }


def _as_ours(family: Family, name: str, tensor: Tensor) -> Tensor:
    """A linear layer as a convolution of one pixel, or the other way round, as the network here has it."""
    if family is DIFFUSERS and ".attn" in name and name.endswith("weight") and tensor.dim() == 2:
        return tensor[:, :, None, None]
    if name == "quantize.proj.weight" and tensor.dim() == 4 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)
    return tensor


def _normalise(checkpoint: Checkpoint, tensors: dict[str, Tensor], report: list[str]) -> None:
    """Gives the codebook's entries the length 1 that LlamaGen's own code gives them at each use."""
    name = "quantize.embedding.weight"
    if name in tensors:
        if not bool(tensors[name].any(dim=-1).all()):
            raise ValueError(f"{checkpoint.file}: {name} has an entry of length 0, which has no direction")
        tensors[name] = F.normalize(tensors[name], dim=-1)
        report.append(f"{name}: entries normalised to length 1, as LlamaGen's code does at each use")
