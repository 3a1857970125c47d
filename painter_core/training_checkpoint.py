"""Training checkpoints: ROOT/checkpoints/step-00001000/ = a model directory + training/ + checkpoint.json.

A checkpoint is written under a temporary name, its marker checkpoint.json (sizes and sha256 of all files)
last, and then renamed. A directory without a valid marker is never loaded; the one before it is.
"""

import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from painter_core.storage import file_sha256, filesystem, read_json, write_json

log = logging.getLogger(__name__)

MARKER = "checkpoint.json"


def save_checkpoint(root: Path, step: int, write: Callable[[Path], None], *, keep: int) -> Path:
    """Writes a checkpoint and drops all but the newest `keep`.

    Args:
        root: directory of the run, on a file system that all workers see.
        step: number of optimizer steps done.
        write: fills an empty directory.
    """
    parent = root / "checkpoints"
    temporary = parent / f".step-{step:08d}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir(parents=True)
    write(temporary)
    files = sorted(p for p in temporary.rglob("*") if p.is_file())
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    fs, _ = filesystem(str(root))
    record = {
        str(p.relative_to(temporary)): {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in files
    }
    write_json(fs, str(temporary / MARKER), {"step": step, "files": record})
    final = parent / f"step-{step:08d}"
    if final.exists():
        # the same step again, after a resume from before it: the new one replaces it
        shutil.rmtree(final)
    os.replace(temporary, final)
    for old in _directories(root)[keep:]:
        shutil.rmtree(old)
    return final


def latest_checkpoint(root: Path) -> Path | None:
    """The newest checkpoint whose files are all as its marker says; None if there is none."""
    for leftover in (root / "checkpoints").glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a killed run; no other run is at work here
    for path in _directories(root):
        problem = _problem(path)
        if problem is None:
            return path
        log.warning("checkpoint %s is not used: %s", path, problem)
    return None


def _directories(root: Path) -> list[Path]:
    """Newest first."""
    return sorted((root / "checkpoints").glob("step-*"), reverse=True)


def _problem(path: Path) -> str | None:
    if not (path / MARKER).is_file():
        return f"no {MARKER}; it was not finished"
    fs, marker = filesystem(str(path / MARKER))
    for name, expected in read_json(fs, marker)["files"].items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["bytes"] or file_sha256(file) != expected["sha256"]:
            return f"{name} is damaged (sha256 differs)"
    return None


def publish(target: Path, checkpoint: Path) -> None:
    """Makes `target` the model directory of a checkpoint, training state left out; by hard links."""
    temporary, old = target.with_name(f".{target.name}.tmp"), target.with_name(f".{target.name}.old")
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(
        checkpoint,
        temporary,
        copy_function=_link,
        ignore=shutil.ignore_patterns("training", "checkpoint.json"),
    )
    if target.exists():
        os.replace(target, old)
    os.replace(temporary, target)
    shutil.rmtree(old, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
