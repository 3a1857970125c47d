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
from painter_core.model_files import hubs, zoo
from painter_core.model_files.checkpoint_file import weights_in
from painter_core.model_files.directory import ModelDirectory, read_directory
from painter_core.model_files.easynlp_captioner import CLIP_FORM, CLIP_NAMES
from painter_core.model_files.from_foreign import converted
from painter_core.model_files.json_file import read_json_object
from painter_core.model_files.needed_files import needed_files, needed_shards

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "bundled"


def open_model(name: str) -> ModelDirectory:
    """Opens a model.

    Args:
        name: `bundled`; a model directory, or the one of jobs/train.py (its best/ is taken); an EasyNLP
            directory or a foreign VQGAN, as a directory, a file or an index of shards (converted in the
            cache); a URL of one of these (copied to the cache), hf://OWNER/NAME and modelscope://OWNER/NAME
            among them; or a name of the zoo. What exists as a path is never taken for a name.

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
        return "model_type" in spec or "_class_name" in spec  # transformers' and EasyNLP's; diffusers'
    if not weights_in(path):
        ckpt = list(path.glob("checkpoints/*.ckpt"))
        hint = f"; of a taming directory give the file itself, {ckpt[0]}" if ckpt else ""
        raise ValueError(f"{redact(name)}: no model directory (no config.json there){hint}")
    return True


def local_path(name: str) -> Path:
    """The local path of what a name stands for, copied there if need be."""
    if name == "bundled":
        return BUNDLED
    if name.startswith(hubs.SCHEMES):
        return hubs.fetch(name)
    if not is_local(name):
        return _download(name)
    path = Path(filesystem(name)[1])
    if path.exists():
        if not (path.is_file() or path.is_dir()):
            raise ValueError(f"{name}: no regular file and no directory")
        return path
    if name.removeprefix(zoo.OWNER) in CLIP_NAMES:
        raise ValueError(f"{name}: {CLIP_FORM}")
    if zoo.is_name(name):
        return zoo.fetch(name)
    raise ValueError(f"{name}: no such file or directory; names of the zoo are {', '.join(zoo.names())}")


def _download(url: str) -> Path:
    """Copies a model behind a URL to the cache, named by URL, sizes and versions of its files."""
    fs, remote = filesystem(url)
    remote = remote.rstrip("/")
    is_run = not fs.exists(f"{remote}/config.json") and fs.exists(f"{remote}/best/config.json")
    directory = f"{remote}/best" if is_run else remote
    file = ""
    if fs.isfile(remote):
        directory, _, file = remote.rpartition("/")
    there = {path.rpartition("/")[2] for path in fs.ls(directory, detail=False)}
    names = needed_files(redact(url), there, file)
    names += needed_shards(redact(url), names, lambda index: read_json(fs, f"{directory}/{index}"))
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
    return cached / file if file else cached


def name_for_workers(model: str) -> str:
    """A model's path or name in a form that means the same to workers with another working directory."""
    path = absolute(model)
    return path if model != "bundled" and os.path.exists(path) else model
