"""Opening a model by path, URL or name.

Foreign checkpoints and names of the zoo are opened through the machine's cache, where they are converted
once.
"""

import json
import logging
import os
import uuid
from pathlib import Path

from painter_core.files.cache import build_once
from painter_core.files.storage import absolute, filesystem, is_local, read_json, redact, sha256
from painter_core.model_files import zoo
from painter_core.model_files.checkpoint_file import INDEX, NAMES, shard_names, weights_in
from painter_core.model_files.directory import ModelDirectory, read_directory, read_json_object
from painter_core.model_files.foreign import wanted
from painter_core.model_files.from_foreign import converted

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "bundled"
# what a directory behind a URL is copied for: ours, and foreign ones
FILES = (
    "config.json", "vqgan.safetensors", "gpt.safetensors", "vocab.txt", "tokenizer.json",
    "tokenizer_config.json", "checkpoint.json", "model.yaml", *NAMES,
)  # fmt: skip


def open_model(name: str) -> ModelDirectory:
    """Opens a model.

    Args:
        name: `bundled`; a model directory, or the one of jobs/train.py (its best/ is taken); an EasyNLP
            directory or a foreign VQGAN, as a directory, a file or an index of shards (converted in the
            cache); a URL of one of these (copied to the cache); or a name of the zoo. What exists as a path
            is never taken for a name.

    Raises:
        ValueError: no model there, or one that does not fit its config.
    """
    path = local_path(name)
    if path.is_dir() and not (path / "config.json").is_file() and (path / "best" / "config.json").is_file():
        path = path / "best"
    if _is_foreign(path, name):
        path = converted(path)
    return read_directory(path)


def _is_foreign(path: Path, name: str) -> bool:
    """Whether what is there must be converted first."""
    if path.is_file():
        return True
    if (path / "config.json").is_file():
        spec = read_json_object(path / "config.json")
        return "model_type" in spec or "_class_name" in spec  # of transformers, EasyNLP; of diffusers
    if not weights_in(path):
        ckpt = list(path.glob("checkpoints/*.ckpt"))
        hint = f"; of a taming directory give the file itself, {ckpt[0]}" if ckpt else ""
        raise ValueError(f"{name}: no model directory (no config.json there){hint}")
    return True


def local_path(name: str) -> Path:
    """Where on this machine is what a name stands for; copied there if need be."""
    if name == "bundled":
        return BUNDLED
    if not is_local(name):
        return _download(name)
    path = Path(filesystem(name)[1])
    if path.exists():
        return path
    if zoo.is_name(name):
        return zoo.fetch(name)
    raise ValueError(f"{name}: no such directory or file; names of the zoo are {', '.join(zoo.names())}")


def _download(url: str) -> Path:
    """Copies a model behind a URL to the cache, named by URL, sizes and versions of its files."""
    fs, remote = filesystem(url)
    remote = remote.rstrip("/")
    if fs.isfile(remote):
        directory, names = remote.rpartition("/")[0], [remote.rpartition("/")[2]]
        names += [n for n in (f"{Path(names[0]).stem}.yaml", "model.yaml") if fs.exists(f"{directory}/{n}")]
    else:
        is_run = not fs.exists(f"{remote}/config.json") and fs.exists(f"{remote}/best/config.json")
        directory = f"{remote}/best" if is_run else remote
        names = [n for n in FILES if fs.exists(f"{directory}/{n}")]
    for index in [n for n in names if n.endswith(INDEX)]:
        shards = shard_names(redact(url), read_json(fs, f"{directory}/{index}"))
        names += sorted({shards[name] for name in wanted(shards)} - set(names))
    content = []
    for name in names:
        info = fs.info(f"{directory}/{name}")
        versions = (str(info[k]) for k in ("ETag", "etag", "mtime", "LastModified", "created") if info.get(k))
        content.append((name, info["size"], next(versions, uuid.uuid4().hex)))

    def build(target: Path) -> None:
        size = sum(entry[1] for entry in content)
        log.info("%s: copying %d files, %s bytes", redact(url), len(content), f"{size:,}")
        for name in names:
            fs.get_file(f"{directory}/{name}", str(target / name))

    key = sha256(json.dumps([redact(url), content]).encode())
    cached = build_once(f"download-{key[:32]}", build)
    return cached / names[0] if fs.isfile(remote) else cached


def name_for_workers(model: str) -> str:
    """A model's path or name in a form that means the same to workers with another working directory."""
    path = absolute(model)
    return path if model != "bundled" and os.path.exists(path) else model
