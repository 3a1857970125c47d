"""Training checkpoints in an object store: ROOT/checkpoints/step-00001000/, with the files that a disk has.

A store shows single files and renames nothing. So a checkpoint is one whose marker checkpoint.json stands
there: it is uploaded last and removed first. What has none is the rest of an upload or a removal that was cut
short; it is never loaded, and removed when the next checkpoint is saved.
"""

import json
import logging
from pathlib import Path
from typing import Any

from fsspec.spec import AbstractFileSystem

from painter_core.files.cache import build_once
from painter_core.files.faults import failpoint
from painter_core.files.storage import filesystem, join, redact, remove, sha256, write_json
from painter_core.model_files.sums import MARKER, problem

log = logging.getLogger(__name__)


def upload_checkpoint(root: str, checkpoint: Path, *, keep: int) -> None:
    """Copies a checkpoint to ROOT/checkpoints, its marker last; drops all but the newest `keep` there.

    Args:
        root: URL of the run.
        checkpoint: local directory, as save_checkpoint() leaves it.
        keep: at least 1: the one that is uploaded.
    """
    fs, parent = filesystem(join(root, "checkpoints"))
    for name in _names(fs, parent):
        if name >= checkpoint.name:
            # written before the run was resumed at an earlier step: damaged, or the same step
            _remove(fs, join(parent, name))
    files = [str(p.relative_to(checkpoint)) for p in sorted(checkpoint.rglob("*")) if p.is_file()]
    for file in sorted(files, key=lambda file: file == MARKER):
        failpoint("checkpoint_upload")
        fs.put_file(str(checkpoint / file), join(parent, checkpoint.name, file))
    failpoint("checkpoint_upload")
    for name in _names(fs, parent)[keep:]:
        _remove(fs, join(parent, name))
    for name in _names(fs, parent):
        if _marker(fs, join(parent, name)) is None:
            _remove(fs, join(parent, name))


def _remove(fs: AbstractFileSystem, path: str) -> None:
    remove(fs, join(path, MARKER))
    failpoint("checkpoint_removal")
    remove(fs, path)


def _names(fs: AbstractFileSystem, parent: str) -> list[str]:
    """Directories of checkpoints, whole or not, newest first."""
    found = fs.ls(parent, detail=False) if fs.exists(parent) else []
    bases = (path.rstrip("/").rpartition("/")[2] for path in found)
    return sorted((base for base in bases if base.startswith("step-")), reverse=True)


def _marker(fs: AbstractFileSystem, path: str) -> dict[str, Any] | None:
    """What the marker says, without `files` if it is damaged; None if there is none."""
    if not fs.exists(join(path, MARKER)):
        return None
    try:
        content = json.loads(fs.cat_file(join(path, MARKER)))
    except ValueError:
        content = None
    files = content.get("files") if isinstance(content, dict) else None
    is_whole = isinstance(files, dict) and all(
        isinstance(f, dict) and {"bytes", "sha256"} <= set(f) for f in files.values()
    )
    return content if is_whole else {}


def check_checkpoints(root: str) -> None:
    """Raises ValueError if there are checkpoints, and none has files of the sizes that its marker says."""
    usable_checkpoints(root)


def newest_checkpoint(root: str) -> tuple[str, Path] | None:
    """The newest whole checkpoint's name, and its copy in this machine's cache; None if there is none.

    Processes of a node that want it at the same time copy it once. Who has loaded it removes it.

    Raises:
        ValueError: there are checkpoints, and all of them are damaged.
    """
    names = usable_checkpoints(root)
    for name in names:
        try:
            return name, _copied(root, name)
        except _Damaged as error:
            log.warning("checkpoint %s of %s is not used: %s", name, redact(root), error)
    if names:
        raise ValueError(_none_whole(root, len(names)))
    return None


class _Damaged(Exception):
    """A checkpoint's files are not what its marker says."""


def usable_checkpoints(root: str) -> list[str]:
    """Names whose files have the right sizes, newest first."""
    fs, parent = filesystem(join(root, "checkpoints"))
    found, damaged = [], 0
    for name in _names(fs, parent):
        marker = _marker(fs, join(parent, name))
        what = "no checkpoint.json; its upload was cut short" if marker is None else ""
        if marker is not None:
            what = _wrong_size(fs, join(parent, name), marker)
            damaged += bool(what)
        if what:
            log.warning("checkpoint %s of %s is not used: %s", name, redact(root), what)
        else:
            found.append(name)
    if damaged and not found:
        raise ValueError(_none_whole(root, damaged))
    return found


def _none_whole(root: str, number: int) -> str:
    return (
        f"{redact(root)}/checkpoints: none of {number} checkpoints is whole; restore one of them, or begin "
        "anew in another directory"
    )


def _wrong_size(fs: AbstractFileSystem, path: str, marker: dict[str, Any]) -> str:
    """What is wrong, as far as a listing tells; empty if nothing is."""
    if not marker:
        return "checkpoint.json holds no sums; it was damaged"
    sizes = {name[len(path) + 1 :]: info["size"] for name, info in fs.find(path, detail=True).items()}
    for name, expected in marker["files"].items():
        if name not in sizes:
            return f"{name} is missing"
        if sizes[name] != expected["bytes"]:
            return f"{name} has {sizes[name]:,} bytes, expected {expected['bytes']:,}"
    return ""


def _copied(root: str, name: str) -> Path:
    """A checkpoint in the cache, named by URL and content; its files compared with the marker."""
    fs, path = filesystem(join(root, "checkpoints", name))
    marker = fs.cat_file(join(path, MARKER))

    def build(target: Path) -> None:
        for file, expected in json.loads(marker)["files"].items():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(join(path, file), str(target / file))
            if what := problem(target, file, expected):
                raise _Damaged(what)
        (target / MARKER).write_bytes(marker)

    key = sha256(redact(root).encode() + name.encode() + marker)
    return build_once(f"checkpoint-{key[:32]}", build)


def publish_copy(root: str, name: str, checkpoint: str) -> None:
    """Makes ROOT/NAME the model directory of a checkpoint, training state left out; by copies in the store.

    Its checkpoint.json comes last: who reads the directory meanwhile finds that sums differ, and no mixture
    of two models.
    """
    fs, source = filesystem(join(root, "checkpoints", checkpoint))
    target = filesystem(join(root, name))[1]
    marker = _marker(fs, source)
    assert marker, "it was uploaded or looked at"
    files = {file: sums for file, sums in marker["files"].items() if not file.startswith("training/")}
    for file in files:
        failpoint("checkpoint_publish")
        fs.cp_file(join(source, file), join(target, file))
    failpoint("checkpoint_publish")
    write_json(fs, join(target, MARKER), {"files": files})
