"""--overwrite: the new run is written beside the old one and takes its place when it is complete.

Until then OUTPUTS stays as it is, and OUTPUTS.new grows. Both are run directories: _run/plan.json says what
they hold, _SUCCESS that they are complete. The exchange may be cut short anywhere. Before the old plan is
replaced, the new run stands complete beside; from then on the two plans are equal, and what is left beside is
moved the next time.
"""

import logging
import re
from collections.abc import Callable
from typing import Any

from fsspec.spec import AbstractFileSystem

from painter_core.errors import Refused
from painter_core.files.faults import failpoint
from painter_core.files.storage import join, move, read_json, redact, remove, write_json
from painter_core.tables.run_directory import check_plan, foreign_name

log = logging.getLogger(__name__)

MARKER = "replaces.json"  # in _run of a directory that we made beside another; no other one is ever removed
_LAST = ("manifest.json", "_SUCCESS")  # in this order


def begin(
    fs: AbstractFileSystem, old: str, new: str, plan: dict[str, Any], same: Callable[[Any], bool]
) -> dict[str, Any]:
    """Makes `new` the place of a run that is to replace `old`, or takes it up again.

    Args:
        plan: of the new run.
        same: whether a stored plan is of the same run; one of another attempt is removed.

    Returns:
        The plan that holds: the stored one, if the run was begun before.

    Raises:
        Refused: `new` holds something else.
    """
    if fs.exists(new) and fs.ls(new):
        if not is_ours(fs, new) and foreign_name(fs, new):
            raise Refused(f"{redact(new)} exists and was not made by --overwrite; move it away")
        stored = read_plan(fs, new)
        if stored is not None and same(stored):
            return stored
        log.info("removing %s: an overwrite with other settings that was not finished", redact(new))
        remove(fs, new)
    write_json(fs, join(new, "_run", MARKER), {"replaces": redact(old)})
    write_json(fs, join(new, "_run", "plan.json"), plan)
    return plan


def is_ours(fs: AbstractFileSystem, new: str) -> bool:
    """Whether a directory was made by begin()."""
    return fs.exists(join(new, "_run", MARKER))


def is_cut_short(fs: AbstractFileSystem, old: str, new: str) -> bool:
    """Whether an exchange was begun and not finished, or left something to be removed."""
    if not is_ours(fs, new):
        return False
    plan, replaced = read_plan(fs, new), read_plan(fs, old)
    return plan in (None, replaced) or (replaced is None and fs.exists(join(new, "_SUCCESS")))


def exchange(
    fs: AbstractFileSystem, old: str, new: str, ours: re.Pattern[str], single: tuple[str, str] = ("", "")
) -> None:
    """Puts the complete run `new` in the place of `old`; goes on where another attempt was cut short.

    Args:
        ours: names of what a run writes; other files in `old` stay.
        single: what stands in `new` for an output that is one file beside `old`, and that file.
    """
    plan = read_plan(fs, new)
    if plan is None:
        remove(fs, new)
        return
    if read_plan(fs, old) != plan:
        assert fs.exists(join(new, "_SUCCESS"))
        clear(fs, old, ours)
        failpoint("replacement_cleared")
        write_json(fs, join(old, "_run", "plan.json"), plan)
    for name in _entries(fs, new):
        failpoint("replacement_moving")
        target = single[1] if name == single[0] else old + name[len(new) :]
        if fs.isdir(target):
            remove(fs, target)  # half of a directory, from an object store, where moving is copying
        move(fs, name, target)
    # the plan before the marker, which shows whose the rest is
    remove(fs, join(new, "_run", "plan.json"))
    failpoint("replacement_moved")
    remove(fs, new)


def read_plan(fs: AbstractFileSystem, root: str) -> Any:
    """_run/plan.json of a run directory; None if there is none. ValueError if it is no plan of ours."""
    path = join(root, "_run", "plan.json")
    return check_plan(path, read_json(fs, path)) if fs.exists(path) else None


def _entries(fs: AbstractFileSystem, new: str) -> list[str]:
    """What is moved, in order."""
    run = join(new, "_run")
    kept = (run, join(run, "plan.json"), join(run, MARKER))
    names = [name for name in _ls(fs, new) + _ls(fs, run) if name not in kept]
    last = [join(new, name) for name in _LAST]
    return sorted(names, key=lambda name: last.index(name) if name in last else -1)


def _ls(fs: AbstractFileSystem, path: str) -> list[str]:
    return sorted(name.rstrip("/") for name in fs.ls(path, detail=False)) if fs.exists(path) else []


def clear(fs: AbstractFileSystem, root: str, ours: re.Pattern[str]) -> None:
    """Removes what a run of ours wrote, and nothing else.

    Args:
        ours: names of what a run writes, beside _run.
    """
    if read_plan(fs, root) is None:
        return
    # the manifest first, so that no reader takes the rest for a finished run; the plan last, so that a
    # removal that is cut short can be resumed
    for name in sorted(_ls(fs, root), key=lambda name: not name.endswith(_LAST)):
        base = name.rpartition("/")[2]
        if ours.fullmatch(base) and base != "_run":
            remove(fs, name)
    for name in sorted(_ls(fs, join(root, "_run")), key=lambda name: name.endswith("/plan.json")):
        remove(fs, name)
