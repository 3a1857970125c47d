"""Which files of a model elsewhere, behind a URL or in a repository, are copied here."""

from collections.abc import Callable, Collection
from pathlib import PurePosixPath
from typing import Any

from painter_core.model_files.checkpoint_file import INDEX, KINDS, NAMES, shard_names
from painter_core.model_files.foreign import wanted

# what a directory is copied for: a model of ours, EasyNLP's, or a foreign VQGAN
FILES = (
    "config.json", "vqgan.safetensors", "gpt.safetensors", "text_head.safetensors", "vocab.txt",
    "tokenizer.json", "tokenizer_config.json", "checkpoint.json", "model.yaml", *NAMES,
)  # fmt: skip


def needed_files(what: str, names: Collection[str], file: str) -> list[str]:
    """The files of a model, without shards.

    Args:
        what: what messages call the place.
        names: of all files there.
        file: the one that was asked for; empty for a directory, of which files under usual names are taken,
            or else its only weights.

    Raises:
        ValueError: no model is there, or several.
    """
    if file:
        if file not in names:
            raise ValueError(f"{what}: no such file; there are {', '.join(sorted(names)[:20])}")
        return [file, *_yaml(file, names)]
    found = [name for name in FILES if name in names]
    if any(name in (*NAMES, "vqgan.safetensors") for name in found):
        return found
    weights = sorted(name for name in names if name.endswith(KINDS) and "/" not in name)
    if len(weights) != 1:
        raise ValueError(
            f"{what}: which file? Give {what}/FILE with one of its weights: "
            f"{', '.join(sorted(name for name in names if name.endswith(KINDS))[:20]) or 'there are none'}"
        )
    return list(dict.fromkeys([*found, *weights, *_yaml(weights[0], names)]))


def needed_shards(what: str, names: Collection[str], read: Callable[[str], Any]) -> list[str]:
    """The shards that the indexes among `names` call for; of Janus only those that hold the VQGAN.

    Args:
        read: the content of an index's JSON.
    """
    shards: list[str] = []
    for index in [name for name in names if name.endswith(INDEX)]:
        places = shard_names(f"{what}/{index}", read(index))
        directory = PurePosixPath(index).parent
        shards += sorted({str(directory / places[name]) for name in wanted(places)})
    return [shard for shard in dict.fromkeys(shards) if shard not in names]


def _yaml(file: str, names: Collection[str]) -> list[str]:
    """The config that may stand beside a checkpoint."""
    beside = (PurePosixPath(file).with_suffix(".yaml"), PurePosixPath(file).with_name("model.yaml"))
    return [str(path) for path in dict.fromkeys(beside) if str(path) in names]
