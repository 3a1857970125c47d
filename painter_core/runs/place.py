"""Where a run writes: whose an output is, and how it is taken up.

Table runs and training runs alike: refuse what is another run's or none of ours; say that it is complete;
take the lock; finish an exchange that was cut short; go on with the stored plan, write a new one, or begin
beside the run that is to be replaced.
"""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from painter_core.errors import Refused
from painter_core.files.storage import filesystem, join, redact, write_json
from painter_core.runs import preflight, replacement
from painter_core.runs.lock import RunLock
from painter_core.runs.nodes import check_nodes
from painter_core.runs.run import Run
from painter_core.tables.plan import differences
from painter_core.tables.run_directory import foreign_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What distinguishes the directories of two kinds of runs."""

    plan_key: str
    """An entry of plan.json that has this value in runs that may replace each other ..."""
    plan_value: Any = None
    """... or any value, if this is None."""
    ours: re.Pattern[str]
    """Names of what a run writes beside _run."""

    def is_of(self, plan: dict[str, Any]) -> bool:
        """Whether a stored plan is of this kind."""
        return self.plan_key in plan and self.plan_value in (None, plan[self.plan_key])


class Place:
    """The place of one run.

    Args:
        kind: of the run.
        flag: that names the output.
        outputs: its value, absolute; the lock stands beside it.
        url: the run's directory, `outputs` itself or beside it.
        is_whole: whether all that a complete run leaves is there.
        single: if the output is one file: what is made of it in the directory, and its path.
    """

    def __init__(
        self,
        kind: Kind,
        flag: str,
        outputs: str,
        url: str,
        is_whole: Callable[[], bool],
        single: tuple[str, str] = ("", ""),
    ) -> None:
        self.kind, self.flag, self.outputs, self.url = kind, flag, outputs, url
        self._is_whole = is_whole
        self._fs, self._path = filesystem(url)
        self._beside_path = self._path.rstrip("/") + ".new"
        self._single = single
        self.is_beside = False
        """Whether the run writes beside another one, to take its place at the end."""

    @property
    def path(self) -> str:
        """Where the run writes, within its file system."""
        return self._beside_path if self.is_beside else self._path

    def check_foreign(self) -> None:
        """Raises Refused if the place holds something that no run of this kind left."""
        fs, path, shown = self._fs, self._path, redact(self.url)
        if replacement.is_ours(fs, self._beside_path):
            return  # a run of ours stood here, and may be half removed
        if self._single[1] and fs.exists(self._single[1]) and not fs.exists(path):
            raise Refused(
                f"{redact(self.outputs)} exists and was not made by this job; move it or name another "
                f"{self.flag}"
            )
        if not fs.exists(path):
            return
        if fs.isfile(path):
            raise Refused(f"{shown} is a file; name another {self.flag}")
        stored = replacement.read_plan(fs, path)
        if stored is not None and not self.kind.is_of(stored):
            raise Refused(
                f"{shown} holds the output of {stored.get('stage')}; name an empty or new {self.flag}"
            )
        if stored is None and (name := foreign_name(fs, path)):
            raise Refused(f"{shown} holds files of another kind ({name}); name an empty or new {self.flag}")

    def take_up(
        self,
        run: Run,
        plan: dict[str, Any],
        *,
        overwrite: bool,
        dry_run: bool,
        needed_bytes: float,
        reads: Iterable[str],
    ) -> dict[str, Any] | None:
        """Makes the place this run's own.

        Args:
            run: of the process; it gets the lock.
            plan: what is to be done, as it would stand in plan.json.
            overwrite: whether a run with other settings may be replaced.
            dry_run: writes nothing, and only looks at the lock.
            needed_bytes: about how much will be written.
            reads: what workers read, as paths or URLs.

        Returns:
            The plan that holds, the stored one if there is one; None if the run is complete.

        Raises:
            ValueError: the place cannot be written, or does not fit what is to be written (exit code 2).
            Refused: it holds a run with other settings, or another driver writes there (exit code 4).
        """
        if self._is_complete(plan, overwrite=overwrite):
            self._mention_abandoned()
            return None
        preflight.check_writable(self.flag, self.url)
        preflight.check_space(self.flag, self.url, needed_bytes)
        check_nodes(self.flag, self.url, reads)
        if dry_run:
            RunLock(self.outputs, log.error).check()
            return plan
        run.lock(self.outputs)
        if replacement.is_cut_short(self._fs, self._path, self._beside_path):
            log.info("finishing an --overwrite of %s that was cut short", redact(self.outputs))
            self.replace()
        # again, now that no other driver is at work here
        if self._is_complete(plan, overwrite=overwrite):
            return None
        return self._place(plan)

    def _is_complete(self, plan: dict[str, Any], *, overwrite: bool) -> bool:
        """Whether this run is there and complete; Refused if it is another one's place."""
        stored = replacement.read_plan(self._fs, self._path)
        if stored is None:
            return False
        changed = differences(stored, plan)
        if changed and not overwrite:
            raise Refused(
                f"{redact(self.url)} holds a run with other settings ({'; '.join(changed)}); name another "
                f"{self.flag}, or replace it with --overwrite"
            )
        cut_short = replacement.is_cut_short(self._fs, self._path, self._beside_path)
        if changed or cut_short or not self._is_whole():
            return False
        log.info("already complete: %s", redact(self.outputs))
        return True

    def _place(self, plan: dict[str, Any]) -> dict[str, Any]:
        """With the lock: the stored plan, or the new one written here or beside the run that it replaces."""
        stored = replacement.read_plan(self._fs, self._path)
        if stored is not None and differences(stored, plan):
            self.is_beside = True
            log.info("--overwrite: writing to %s.new; the old run stays till the end", redact(self.url))
            return replacement.begin(
                self._fs, self._path, self._beside_path, plan, lambda found: not differences(found, plan)
            )
        self._mention_abandoned()
        if stored is None:
            write_json(self._fs, join(self._path, "_run", "plan.json"), plan)
        return stored or plan

    def _mention_abandoned(self) -> None:
        """Says that an --overwrite was begun beside and not finished; it is nobody's to remove unasked."""
        if replacement.is_ours(self._fs, self._beside_path):
            log.warning(
                "%s.new holds an --overwrite that was not finished: submit that command again to finish it, "
                "or remove the directory",
                redact(self.url),
            )

    def replace(self) -> None:
        """Puts the complete run beside in the place of the old one."""
        replacement.exchange(self._fs, self._path, self._beside_path, self.kind.ours, self._single)
        self.is_beside = False
