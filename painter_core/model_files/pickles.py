"""Reading a pickle of tensors without running anything in it.

torch's restricted unpickler is the only reader. Names outside torch's allow-list are refused, save for two
kinds that become empty stand-ins: PyTorch Lightning's, which stand for callbacks in a .ckpt, and argparse's,
for the flags of a training. There is no fallback to plain pickle.
"""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from painter_core.model_files.not_weights import check_download

EMPTY = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "argparse.Namespace")
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


NESTED = ("state_dict", "model", "params_ema", "params")  # the last two: BasicSR's networks that enlarge
AVERAGED = "ema."  # before the names of the averaged copy that some files hold beside the weights


class StandIn:
    """Takes the place of an object that is not needed here; keeps nothing."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def load_pickle(file: Path) -> dict[str, Tensor]:
    """The state dict in a file, under the names in the file.

    Args:
        file: a flat dict of tensors, or a dict that holds one under one of NESTED. A second one
            under "ema" is added with AVERAGED before its names; everything else beside it is dropped.
    """
    check_download(file)
    names = _stand_ins(file)
    try:
        with safe_globals([(dict if n == LIGHTNING_DICT else StandIn, n) for n in names]):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except STREAM_ERRORS as error:
        raise _damaged(file, error) from None
    state = _state_dict(content)
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{file}: holds a {type(state).__name__}, expected a dict of tensors")
    if wrong := [str(k) for k, v in state.items() if not isinstance(k, str) or not isinstance(v, Tensor)]:
        raise ValueError(f"{file}: {len(wrong)} entries are no tensors: {', '.join(wrong[:10])}")
    claimed, size = sum(t.numel() * t.element_size() for t in state.values()), file.stat().st_size
    if claimed > 2 * size:
        # a tensor may be a view that repeats a few bytes; copied, it would fill the memory
        raise ValueError(f"{file}: claims {claimed:,} bytes of tensors in a file of {size:,}; refused")
    return state


def _state_dict(content: Any) -> Any:
    """The weights in what a file holds, the averaged ones with their prefix."""
    if not isinstance(content, dict):
        return content
    state = next((content[k] for k in NESTED if isinstance(content.get(k), dict)), None)
    averaged = content.get("ema")
    if not isinstance(averaged, dict):
        return content if state is None else state
    if state is None:
        return averaged
    return state | {f"{AVERAGED}{name}": tensor for name, tensor in averaged.items()}


def _stand_ins(file: Path) -> list[str]:
    """Names in a file that become stand-ins; ValueError if there are others that torch does not allow."""
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
    if refused := [name for name in names if not name.startswith(EMPTY)]:
        raise ValueError(
            f"{file}: refused, since restoring {', '.join(refused[:10])} would run code. {ADVICE}"
        )
    return names


def _damaged(file: Path, error: Exception) -> ValueError:
    """What is wrong, in our words: torch's own advise to read the file without the restriction."""
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        found = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
        reason = f"restoring {found[1]} would run code" if found else "not a file of tensors that torch wrote"
        return ValueError(f"{file}: damaged, or no checkpoint ({reason}). {ADVICE}")
    return ValueError(f"{file}: damaged, or no checkpoint ({reason}). Copy it again, or give the right file")
