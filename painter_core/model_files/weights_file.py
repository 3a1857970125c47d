"""A file of bare weights that a user has: .safetensors, or a pickle of torch's, of which nothing is run."""

import zipfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from painter_core.model_files.finite import is_finite
from painter_core.model_files.pickles import load_pickle


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name.

    Raises:
        ValueError: there is no such file, it is TorchScript, or it is damaged.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file}: damaged, or no safetensors file ({error})") from None
    if _is_torchscript(file):
        raise ValueError(
            f"{file}: this is TorchScript, a program with its weights, and is not run; give the file of bare "
            "weights (a state dict) instead"
        )
    return load_pickle(file)


def check_finite(file: str, state: dict[str, Tensor]) -> None:
    """Raises ValueError if a tensor holds something else than finite floats."""
    for name, tensor in state.items():
        if not tensor.is_floating_point() or not is_finite(tensor):
            raise ValueError(f"{file}: {name} holds something else than finite floats")


def _is_torchscript(file: Path) -> bool:
    """torch.jit.save puts source code beside the tensors."""
    if not zipfile.is_zipfile(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return any("/code/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        return False  # load_pickle says what is wrong with it
