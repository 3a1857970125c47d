"""Opening a foreign checkpoint file: tensors of EasyNLP or taming-transformers, sorted by prefix, in float32.

A file is a pickle and read by torch's restricted unpickler only; nothing in it is ever executed. Names
outside torch's allow-list are refused, save for those of PyTorch Lightning: they stand for callbacks in a
.ckpt and become empty stand-ins. There is no fallback to plain pickle.
"""

import pickle
import re
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

WEIGHTS = "pytorch_model.bin"
VQGAN_PREFIX, GPT_PREFIX = "first_stage_model.", "transformer."  # EasyNLP's; taming's names bear none
LOSS = ("loss.", VQGAN_PREFIX + "loss.")  # discriminator and perceptual loss of the VQGAN's training
VQGAN_PARTS = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")
MASK = re.compile(r"blocks\.\d+\.attn\.mask")

LIGHTNING = ("pytorch_lightning.", "lightning.", "lightning_fabric.")
LIGHTNING_DICT = "pytorch_lightning.utilities.parsing.AttributeDict"
# what the unpickler raises on damaged or hostile streams
STREAM_ERRORS = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, AttributeError, LookupError,
    AssertionError, OSError,
)  # fmt: skip
ADVICE = (
    "Nothing of the file was run. If you trust it, open it in the project that wrote it and save the bare "
    'weights, torch.save({"state_dict": checkpoint["state_dict"]}, "weights.ckpt"), then give weights.ckpt'
)


@dataclass(kw_only=True)
class Foreign:
    """The tensors of a foreign checkpoint in float32, under our names."""

    vqgan: dict[str, Tensor] = field(default_factory=dict)
    gpt: dict[str, Tensor] = field(default_factory=dict)
    report: list[str] = field(default_factory=list)
    """What was mapped, cast and left out; later also what was assumed."""


class StandIn:
    """Takes the place of an object that is of no use here; keeps nothing."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


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


def load_pickle(file: Path) -> dict[str, Tensor]:
    """The state dict in a file, under the names in the file.

    Args:
        file: a flat dict of tensors, or a dict that holds one under "state_dict" (all that stands beside it
            is dropped).
    """
    names = _stand_ins(file)
    try:
        with safe_globals([(dict if n == LIGHTNING_DICT else StandIn, n) for n in names]):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except STREAM_ERRORS as error:
        raise _damaged(file, error) from None
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{file}: holds a {type(state).__name__}, expected a dict of tensors")
    if wrong := [str(k) for k, v in state.items() if not isinstance(k, str) or not isinstance(v, Tensor)]:
        raise ValueError(f"{file}: {len(wrong)} entries are no tensors: {', '.join(wrong[:10])}")
    claimed, size = sum(t.numel() * t.element_size() for t in state.values()), file.stat().st_size
    if claimed > 2 * size:
        # a tensor may be a view that repeats a few bytes; copied, it would fill the memory
        raise ValueError(f"{file}: claims {claimed:,} bytes of tensors in a file of {size:,}; refused")
    return state


def _stand_ins(file: Path) -> list[str]:
    """Lightning's names in a checkpoint; ValueError if there are other ones that torch does not allow."""
    if not zipfile.is_zipfile(file):
        return []  # a file of torch before 1.6: torch.load itself refuses names that it does not allow
    try:
        with zipfile.ZipFile(file) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
        names = sorted(get_unsafe_globals_in_checkpoint(file)) if not packed else []
    except (zipfile.BadZipFile, *STREAM_ERRORS) as error:
        raise _damaged(file, error) from None
    if packed:
        raise ValueError(
            f"{file}: a compressed archive; torch.save writes none. Unpack it, and give the file inside"
        )
    if refused := [name for name in names if not name.startswith(LIGHTNING)]:
        raise ValueError(
            f"{file}: refused, since restoring {', '.join(refused[:10])} would run code. {ADVICE}"
        )
    return names


def _damaged(file: Path, error: Exception) -> ValueError:
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    hint = ADVICE if isinstance(error, pickle.UnpicklingError) else "Copy it again, or give the right file"
    return ValueError(f"{file}: damaged, or no checkpoint ({reason}). {hint}")


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
