"""A training run and its directory: how it is taken up, replaced, and ended.

    _run/plan.json, best/, last/, checkpoints/, metrics.jsonl, tensorboard/, previews/, _SUCCESS, summary.json

Whose the directory is: painter_core.runs.place, as for tables.
"""

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from painter_core.files.storage import filesystem, is_local, join, read_json, redact, write_json
from painter_core.runs.place import Kind, Place
from painter_core.runs.run import Run
from painter_core.tables.plan import fingerprint
from painter_core.training.checkpoints import latest_checkpoint
from painter_core.training.remote_checkpoints import check_checkpoints
from painter_core.training.run_flags import TrainingRunFlags

log = logging.getLogger(__name__)

OURS = re.compile(
    r"_SUCCESS|best|last|\.(best|last)\.(old|tmp)|checkpoints|metrics\.jsonl|tensorboard|previews|summary\.json"
)


class TrainingRun:
    """One run of a training job.

    Args:
        stage: train or train_vqgan.
        flag: that names the directory.
        url: its value, absolute.
        run: of the process.

    Raises:
        Refused: something else is there.
    """

    def __init__(self, stage: str, flag: str, url: str, run: Run) -> None:
        self.stage = stage
        self._run = run
        kind = Kind(plan_key="stage", plan_value=stage, ours=OURS)
        self._place = Place(kind, flag, url, url, lambda: _is_whole(url))
        self._place.check_foreign()
        self._values: dict[str, Any] = {}

    @property
    def root(self) -> str:
        """Where the run writes, as a path or URL: the directory, or the one beside it."""
        url = self._place.url
        if is_local(url):
            return self._place.path
        return url.rstrip("/") + ".new" if self._place.is_beside else url.rstrip("/")

    def stored(self) -> dict[str, Any] | None:
        """plan.json of the run that is there, if there is one, with `began_s`: when it was written."""
        fs, path = filesystem(join(self.root, "_run", "plan.json"))
        if not fs.exists(path):
            return None
        return read_json(fs, path) | {"began_s": fs.modified(path).timestamp()}

    def take_up(
        self,
        identity: dict[str, Any],
        record: dict[str, Any],
        flags: TrainingRunFlags,
        *,
        needed_bytes: float,
        reads: Iterable[str],
    ) -> dict[str, Any] | None:
        """Checks the directory, takes its lock, and writes _run/plan.json or goes on with the stored one.

        Args:
            identity: what must be the same when the run is resumed.
            record: what plan.json says besides.
            flags: of the run.
            needed_bytes, reads: as in Place.take_up.

        Returns:
            The plan.json that holds; None if the run is complete.

        Raises:
            ValueError: the directory cannot be written, or its checkpoints are all damaged.
            Refused: it holds a run with other settings, or another run writes there.
        """
        identity = json.loads(json.dumps(identity))  # as it will be read back: tuples as lists
        plan = {
            "format": 1,
            "stage": self.stage,
            "fingerprint": fingerprint(identity),
            "identity": identity,
            **record,
        }
        taken = self._place.take_up(
            self._run,
            plan,
            overwrite=flags.overwrite,
            dry_run=flags.dry_run,
            needed_bytes=needed_bytes,
            reads=reads,
        )
        if taken is not None and not flags.dry_run:
            # damaged ones show here, not when workers have begun
            if is_local(self.root):
                latest_checkpoint(Path(self.root))
            else:
                check_checkpoints(self.root)
            self._run.began(self._write_summary)
        return taken

    def end(self, values: dict[str, Any]) -> None:
        """The workers are done: a run beside takes the old one's place.

        Args:
            values: what the summary says besides.
        """
        self._values = values
        if self._place.is_beside:
            self._place.replace()
        told = [f"{values['step']:,} steps"]
        told += [f"{name.replace('_', ' ')} {v:.4g}" for name, v in values.items() if isinstance(v, float)]
        log.info("%s: %s -> %s", self.stage, ", ".join(told), redact(self.root))

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
        write_json(*filesystem(join(self.root, "summary.json")), summary)


def _is_whole(root: str) -> bool:
    """Whether a run reached its end there, and its models were not removed since."""
    fs, path = filesystem(root)
    return all(fs.exists(join(path, name)) for name in ("_SUCCESS", "best/config.json", "last/config.json"))


def split_tables(tables: str) -> list[str]:
    """--tables of a training job: one, or two."""
    found = [table.strip() for table in tables.split(",")]
    if len(found) > 2:
        raise ValueError(f"--tables: got {len(found)} tables, expected TRAIN or TRAIN,VALID")
    return found
