"""A training run and its directory: whose it is, how it is taken up again, replaced, and ended.

    _run/plan.json, best/, last/, checkpoints/, metrics.jsonl, tensorboard/, _SUCCESS, summary.json

As with tables, a run that replaces another one is written beside it (painter_core.runs.replacement).
"""

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from painter_core.errors import Complete, Refused
from painter_core.files.storage import filesystem, is_local, join, write_json
from painter_core.runs import preflight, replacement
from painter_core.runs.lock import RunLock
from painter_core.runs.nodes import check_nodes
from painter_core.runs.outcome import Outcome
from painter_core.tables.plan import fingerprint
from painter_core.tables.run_directory import foreign_name
from painter_core.training.checkpoints import latest_checkpoint

log = logging.getLogger(__name__)

OURS = re.compile(
    r"_SUCCESS|best|last|\.(best|last)\.(old|tmp)|checkpoints|metrics\.jsonl|tensorboard|summary\.json"
)


class TrainingRun:
    """One run of a training job.

    Args:
        stage: train or train_vqgan.
        flag: that names the directory.
        url: its value, absolute.
        outcome: of the process.
    """

    def __init__(self, stage: str, flag: str, url: str, outcome: Outcome) -> None:
        self.stage, self.flag, self.url = stage, flag, url
        self._fs, self._place = filesystem(url)
        self.root = Path(self._place)
        """Where the run writes: the directory, or the one beside it."""
        self._outcome = outcome
        self._values: dict[str, Any] = {}

    @property
    def _beside(self) -> str:
        return self._place.rstrip("/") + ".new"

    def check_place(self) -> None:
        """Raises ValueError or Refused if no run of this kind can stand there."""
        fs, place = self._fs, self._place
        if not is_local(self.url):
            raise ValueError(f"{self.flag} {self.url}: a path that all nodes see is needed, not a URL")
        if fs.isfile(place):
            raise Refused(f"{place} is a file; name another {self.flag}")
        stored = replacement.read_plan(fs, place)
        kind = stored.get("stage") if stored is not None else self.stage
        if kind != self.stage:
            raise Refused(f"{place} holds the output of {kind}; name an empty or new {self.flag}")
        replaced = replacement.is_ours(
            fs, self._beside
        )  # then a run of ours stood here, and may be half removed
        if stored is None and not replaced and (name := foreign_name(fs, place)):
            raise Refused(f"{place} holds files of another kind ({name}); name an empty or new {self.flag}")

    def take_up(
        self,
        identity: dict[str, Any],
        record: dict[str, Any],
        *,
        overwrite: bool,
        dry_run: bool,
        needed_bytes: float,
        reads: Iterable[str],
    ) -> dict[str, Any]:
        """Checks the directory, takes its lock, and writes _run/plan.json or goes on with the stored one.

        Args:
            identity: what must be the same when the run is taken up again.
            record: what plan.json says besides.
            dry_run: writes nothing.
            needed_bytes: about how much will be written.
            reads: what workers read, as paths or URLs.

        Returns:
            The plan.json that holds.

        Raises:
            ValueError: the directory cannot be written, or its checkpoints are all damaged.
            Refused: it holds a run with other settings, or another run writes there.
            Complete: there is nothing to do.
        """
        self.check_place()
        self._refuse_or_complete(identity, overwrite=overwrite)
        preflight.check_writable(self.flag, self.url)
        preflight.check_space(self.flag, self.url, needed_bytes)
        check_nodes(self.flag, self.url, reads)
        plan = {
            "format": 1,
            "stage": self.stage,
            "fingerprint": fingerprint(identity),
            "identity": identity,
            **record,
        }
        if dry_run:
            RunLock(self.url, log.error).check()
            return plan
        self._outcome.lock(self.url)
        plan = self._place_plan(plan, overwrite=overwrite)
        latest_checkpoint(self.root)  # damaged ones show here, not when workers have begun
        self._outcome.began(self._write_summary)
        return plan

    def _place_plan(self, plan: dict[str, Any], *, overwrite: bool) -> dict[str, Any]:
        """With the lock: writes the plan, here or beside a run that is to be replaced, or finds its own."""
        identity = plan["identity"]
        if replacement.is_cut_short(self._fs, self._place, self._beside):
            log.info("finishing an --overwrite of %s that was cut short", self._place)
            self._replace()
        stored = self._refuse_or_complete(identity, overwrite=overwrite)  # now that no other driver runs
        if stored is not None and changed_settings(stored["identity"], identity):
            log.info("--overwrite: writing to %s; the old run stays till the end", self._beside)
            self.root = Path(self._beside)
            return replacement.begin(
                self._fs,
                self._place,
                self._beside,
                plan,
                lambda found: not changed_settings(found["identity"], identity),
            )
        if stored is None:
            write_json(self._fs, join(self._place, "_run", "plan.json"), plan)
        return stored or plan

    def _refuse_or_complete(self, identity: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
        """The stored plan; ends here if it is another run's, or this one complete."""
        stored = replacement.read_plan(self._fs, self._place)
        if stored is None:
            return None
        changed = changed_settings(stored["identity"], identity)
        if changed and not overwrite:
            raise Refused(
                f"{self._place} holds a run with other settings ({changed}); name another {self.flag}, or "
                "replace it with --overwrite"
            )
        cut_short = replacement.is_cut_short(self._fs, self._place, self._beside)
        if not changed and not cut_short and self._fs.exists(join(self._place, "_SUCCESS")):
            log.info("already complete: %s", self._place)
            raise Complete(0)
        return stored

    def _replace(self) -> None:
        replacement.exchange(self._fs, self._place, self._beside, OURS)
        self.root = Path(self._place)

    def end(self, values: dict[str, Any]) -> None:
        """The workers are done: a run beside takes the old one's place.

        Args:
            values: what the summary says besides.
        """
        self._values = values
        if self.root != Path(self._place):
            self._replace()

    def _write_summary(self, code: int, message: str, seconds: float) -> None:
        """summary.json: how the run ended."""
        summary = {
            "stage": self.stage,
            "exit_code": code,
            "message": message,
            "seconds": round(seconds, 3),
            **self._values,
            "next": "" if code == 0 else "submit the same command again to resume",
        }
        write_json(self._fs, str(self.root / "summary.json"), summary)


def split_tables(tables: str) -> list[str]:
    """--tables of a training job: one, or two."""
    found = [table.strip() for table in tables.split(",")]
    if len(found) > 2:
        raise ValueError(f"--tables: got {len(found)} tables, expected TRAIN or TRAIN,VALID")
    return found


def changed_settings(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs between two identities, for a person; empty if nothing does."""
    return "; ".join(
        f"{k}: was {old.get(k)!r}, is {new.get(k)!r}" for k in {**new, **old} if old.get(k) != new.get(k)
    )


def as_json(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity as it will be read back: tuples as lists."""
    return json.loads(json.dumps(identity))
