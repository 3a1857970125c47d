"""The tensors of a foreign checkpoint, by name; each is read when it is asked for.

A checkpoint is a .safetensors file, a pickle of torch's (.ckpt, .pt, .bin), or an index of shards
(model.safetensors.index.json, pytorch_model.bin.index.json: {"weight_map": {NAME: FILE, ...}}), which are
beside it. Only shards that hold a wanted tensor are opened.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from painter_core.model_files.finite import is_finite
from painter_core.model_files.not_weights import check_download
from painter_core.model_files.pickles import load_pickle
from painter_core.model_files.safetensors_file import open_safetensors

INDEX = ".index.json"
# weights of a directory, the first that is there; else the only file of a known kind
NAMES = (
    "model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin",
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
)  # fmt: skip
KINDS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
MAX_INDEX_BYTES = 64 * 2**20


def weights_in(directory: Path) -> list[Path]:
    """The weights in a directory: the file under a usual name, or else all of a known kind."""
    named = [directory / name for name in NAMES if (directory / name).is_file()]
    return named[:1] or sorted(path for path in directory.iterdir() if path.suffix in KINDS)


def find_weights(directory: Path) -> Path:
    """The weights in a directory.

    Raises:
        ValueError: there are none, or several without a usual name.
    """
    found = weights_in(directory)
    if len(found) != 1:
        what = f"{', '.join(path.name for path in found[:10])}: give one of them" if found else "none"
        raise ValueError(f"{directory}: which weights? Expected one of {', '.join(NAMES)}; found {what}")
    return found[0]


def shard_names(index: str, content: Any) -> dict[str, str]:
    """Tensor -> name of the shard that holds it.

    Args:
        index: what to call the index in messages.
        content: its parsed JSON.

    Raises:
        ValueError: it is no index, or names files that are not beside it.
    """
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{index}: no index of shards; it has no weight_map of names and files")
    for shard in shards.values():
        if not isinstance(shard, str) or Path(shard).name != shard or Path(shard).suffix not in KINDS:
            raise ValueError(
                f"{index}: names the shard {shard!r}, which is no weights file beside it; refused"
            )
    return shards


class Checkpoint:
    """The tensors of one checkpoint.

    Raises:
        ValueError: a file is missing, damaged, refused, or no checkpoint.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._pickles: dict[Path, dict[str, Tensor]] = {}
        self._places = (
            _read_index(file) if file.name.endswith(INDEX) else dict.fromkeys(self._names(file), file)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors, in the order of the file."""
        return tuple(self._places)

    def files(self, names: Iterable[str]) -> list[Path]:
        """What must be read for these tensors: the file, or the index and some shards."""
        return list(dict.fromkeys([self.file, *(self._places[name] for name in names)]))

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Some of the tensors, on the CPU and as they are stored."""
        wanted: dict[Path, list[str]] = {}
        for name in names:
            wanted.setdefault(self._places[name], []).append(name)
        found: dict[str, Tensor] = {}
        for file, inside in wanted.items():
            found |= self._read(file, inside)
        return found

    def _names(self, file: Path) -> list[str]:
        if not file.is_file():
            raise ValueError(f"{file}: no such file; download all that {self.file.name} names")
        if file.suffix == ".safetensors":
            with open_safetensors(file) as tensors:
                return list(tensors.keys())
        return list(self._pickle(file))

    def _pickle(self, file: Path) -> dict[str, Tensor]:
        if file not in self._pickles:
            self._pickles[file] = load_pickle(file)
        return self._pickles[file]

    def _read(self, file: Path, names: list[str]) -> dict[str, Tensor]:
        if missing := sorted(set(names) - set(self._names(file))):
            raise ValueError(
                f"{file}: {missing[0]} is not in it, though {self.file.name} says so; copy both again"
            )
        if file.suffix != ".safetensors":
            return {name: self._pickle(file)[name] for name in names}
        with open_safetensors(file) as tensors:
            return {name: tensors.get_tensor(name) for name in names}


def _read_index(file: Path) -> dict[str, Path]:
    """The shard of each tensor."""
    check_download(file)
    if not file.is_file() or file.stat().st_size > MAX_INDEX_BYTES:
        raise ValueError(f"{file}: no index of shards")
    try:
        content = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON: {error}") from None
    return {name: file.parent / shard for name, shard in shard_names(str(file), content).items()}


def to_float32(what: str, tensor: Tensor) -> Tensor:
    """A tensor of floats in float32; one that is float32 already is not copied.

    Raises:
        ValueError: it holds something else than dense, finite floats; the message begins with `what`.
    """
    packed = tensor.dtype in (getattr(torch, "float4_e2m1fn_x2", None),)
    if not tensor.is_floating_point() or tensor.layout != torch.strided or packed:
        raise ValueError(f"{what} is {tensor.dtype} {tensor.layout}, expected dense floats")
    wide = tensor.detach().to(torch.float32).contiguous()
    if not is_finite(wide):
        raise ValueError(f"{what} holds values that are not finite; the checkpoint is damaged")
    return wide
