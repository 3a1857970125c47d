"""Training checkpoints: ROOT/checkpoints/step-00001000/ = a model directory + training/ + checkpoint.json.

A checkpoint is written under a temporary name, its marker checkpoint.json (sizes and sha256 of all files)
last, and then renamed. A directory without a valid marker is never loaded; the one before it is. A run
whose checkpoints are all invalid is refused: it never begins anew.
"""

import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from painter_core.files.faults import failpoint
from painter_core.files.storage import full_disk_named
from painter_core.model_files.sums import MARKER, problem, read_sums, write_sums

log = logging.getLogger(__name__)


def save_checkpoint(root: Path, step: int, write: Callable[[Path], None], *, keep: int) -> Path:
    """Writes a checkpoint and drops all but the newest `keep`.

    Args:
        root: directory of the run, on a file system that all workers see.
        step: number of optimizer steps done.
        write: fills an empty directory.
        keep: at least 1: the one that is written.
    """
    assert keep > 0
    parent = root / "checkpoints"
    temporary = parent / f".step-{step:08d}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir(parents=True)
    try:
        with full_disk_named(temporary):
            write(temporary)
        _seal(temporary, step)
        final = parent / f"step-{step:08d}"
        for old in _directories(root):
            if old.name >= final.name:
                # written before the run was resumed at an earlier step: damaged, or the same step
                shutil.rmtree(old)
        failpoint("checkpoint_save")
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    failpoint("checkpoint_save")
    for old in _directories(root)[keep:]:
        shutil.rmtree(old)
    return final


def _seal(directory: Path, step: int) -> None:
    """Brings the files to the disk, then writes the marker."""
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MARKER):
        failpoint("checkpoint_save")
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    write_sums(directory, step=step)
    failpoint("checkpoint_save")


def latest_checkpoint(root: Path) -> Path | None:
    """The newest checkpoint whose files are all as its marker says; None if no checkpoint was ever finished.

    Raises:
        ValueError: there are checkpoints, and all of them are damaged.
    """
    for leftover in (root / "checkpoints").glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)  # left by a killed run; no other run is at work here
    if (newest := next(whole_checkpoints(root), None)) is not None:
        return root / "checkpoints" / newest
    if found := _directories(root):
        raise ValueError(
            f"{root / 'checkpoints'}: none of {len(found)} checkpoints is whole; restore one of "
            "them, or begin anew in another directory"
        )
    return None


def whole_checkpoints(root: Path) -> Iterator[str]:
    """Names of checkpoints whose files are all as their markers say, the newest first; others are named in
    the log."""
    for path in _directories(root):
        what = _problem(path)
        if what is None:
            yield path.name
        else:
            log.warning("checkpoint %s is not used: %s", path, what)


def _directories(root: Path) -> list[Path]:
    """Newest first."""
    return sorted((root / "checkpoints").glob("step-*"), reverse=True)


def _problem(path: Path) -> str | None:
    try:
        sums = read_sums(path)
    except ValueError as error:
        return str(error)
    if sums is None:
        return f"no {MARKER}; it was not finished"
    found = (problem(path, name, expected) for name, expected in sums.items())
    return next((what for what in found if what), None)


def publish(target: Path, checkpoint: Path) -> None:
    """Makes `target` the model directory of a checkpoint, training state left out; by hard links."""
    temporary, old = target.with_name(f".{target.name}.tmp"), target.with_name(f".{target.name}.old")
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(
        checkpoint,
        temporary,
        copy_function=_link,
        ignore=shutil.ignore_patterns("training", MARKER),
    )
    write_sums(temporary)
    failpoint("checkpoint_publish")
    if target.exists():
        os.replace(target, old)
    failpoint("checkpoint_publish")
    os.replace(temporary, target)
    failpoint("checkpoint_publish")
    shutil.rmtree(old, ignore_errors=True)


def repair_published(target: Path) -> None:
    """Brings back a model directory that a kill caught between the two renames of publish()."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        os.replace(old, target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
