"""adapter.safetensors: the low-rank adapters of a fine-tuned GPT, a few MB beside their base model.

The file names its base by the sha256 of its gpt.safetensors, and is merged with no other.
"""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from painter_core.model_files.directory import ModelDirectory, write_model
from painter_core.model_files.safetensors_file import compare_tensors, open_safetensors, read_metadata
from painter_core.models.gpt import GPT
from painter_core.models.low_rank import adapter_state, add_adapters, merged

FILE, KEY = "adapter.safetensors", "adapter"
MOST_RANK = 4096


def write_adapter(directory: Path, tensors: dict[str, Tensor], *, rank: int, base_sha256: str) -> None:
    """Writes the file into a model directory.

    Args:
        tensors: as painter_core.models.low_rank.adapter_state gives them.
        rank: of the adapters.
        base_sha256: of the base's gpt.safetensors.
    """
    file = directory / FILE
    file.touch()
    mode = file.stat().st_mode  # as the umask wants it
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # one entry: of several the order in the file would be another each time
    save_file(whole, file, {KEY: json.dumps({"rank": rank, "base_sha256": base_sha256})})
    file.chmod(mode)


def load_adapter(gpt: GPT, file: Path) -> None:
    """Gives a GPT's adapters, which are there, the values of a file.

    Raises:
        ValueError: the file is damaged, or of other adapters.
    """
    expected = {name: list(tensor.shape) for name, tensor in adapter_state(gpt).items()}
    with open_safetensors(file) as tensors:
        found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    compare_tensors(str(file), {k: list(v.shape) for k, v in found.items()}, expected, "the model")
    gpt.load_state_dict(gpt.state_dict() | found)


def with_adapter(base: ModelDirectory, file: Path) -> GPT:
    """The GPT of a base model with an adapter merged into it.

    Raises:
        ValueError: the adapter is of another base, or damaged.
    """
    rank, base_sha256 = _facts(file)
    if base_sha256 != base.gpt_sha256():
        raise ValueError(
            f"{file}: it was trained on a base with sha256 {base_sha256[:16]}, but {base.path} has "
            f"{base.gpt_sha256()[:16]}; give the model that --pretrained-model-name-or-path named then"
        )
    gpt = base.load_gpt()
    add_adapters(gpt, rank, seed=0)
    load_adapter(gpt, file)
    return merged(gpt)


def merge_adapter(base: ModelDirectory, file: Path, target: Path) -> list[str]:
    """Writes the model directory of a base model with an adapter, and returns the report.

    Raises:
        ValueError: the adapter is of another base, or damaged; or the base holds no VQGAN.
    """
    gpt, rank = with_adapter(base, file), _facts(file)[0]
    if base.vqgan_config is None:
        raise ValueError(f"{base.path}: holds no VQGAN; give a directory that jobs/train.py wrote")
    about = f"# Text-to-image model\n\n{base.path.name} with the adapter {file.name} (rank {rank}) merged.\n"
    write_model(target, vqgan=base.path, gpt=gpt, tokenizer=base.load_tokenizer(), card=about)
    return [f"{file}: rank {rank}, merged into {base.path}"]


def _facts(file: Path) -> tuple[int, str]:
    """Rank, and the sha256 of the base."""
    metadata = read_metadata(file)
    try:
        facts = json.loads(metadata.get(KEY, ""))
        rank, base_sha256 = facts["rank"], facts["base_sha256"]
    except (ValueError, TypeError, KeyError):
        rank, base_sha256 = None, None
    if type(rank) is not int or not 0 < rank <= MOST_RANK or not isinstance(base_sha256, str):
        raise ValueError(f"{file}: no adapter; expected an {FILE} that jobs/train.py --lora-rank wrote")
    return rank, base_sha256
