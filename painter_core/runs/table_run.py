"""Running a table-to-table job: preflight, plan, resources, the end of the run."""

import dataclasses
import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa

from painter_core.compute.memory import fitting_rows
from painter_core.errors import Complete, Refused
from painter_core.files.faults import failpoint
from painter_core.files.storage import absolute, filesystem, redact
from painter_core.runs import preflight, replacement
from painter_core.runs.cluster import cluster_resources, start_ray
from painter_core.runs.command_line import check_path
from painter_core.runs.dry_run import Step, run_sample
from painter_core.runs.lock import RunLock
from painter_core.runs.nodes import check_nodes
from painter_core.runs.outcome import Outcome
from painter_core.runs.progress import Progress, check_ceiling, drop_what_broke
from painter_core.runs.ray_data import Resources
from painter_core.runs.run_config import RunConfig
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.manifest import finish, joined_path, read_records
from painter_core.tables.plan import Plan, differences
from painter_core.tables.reader import UnitReader
from painter_core.tables.run_directory import OURS, RunDirectory
from painter_core.tables.units import Unit, group_units, plan_units

if TYPE_CHECKING:
    import ray.data

log = logging.getLogger(__name__)


class Job:
    """One run of a table-to-table job, as a context: its exit writes summary.json and sets the exit code.

    Args:
        stage: precompute, generate, evaluate ...
        config: the shared flags.
        columns: what is read.
        outcome: of the process, if the run is only a part of it; then that is the context, not the job.
    """

    def __init__(
        self, stage: str, config: RunConfig, columns: Columns, outcome: Outcome | None = None
    ) -> None:
        self.stage, self.config, self.columns = stage, config, columns
        self.directory = RunDirectory(absolute(config.outputs))
        self.memory_per_row = 0  # bytes that the model needs for a row; set before make_plan()
        self.gpu_rows = 128  # of a GPU's micro-batch; likewise
        self.plan: Plan | None = None
        rejects = redact(self.directory.url) + "/rejects"
        self._progress = Progress(stage, rejects, config.max_reject_fraction)
        self.pending: list[Unit] = []
        """Units that are not done."""
        self.resources = Resources(config.num_actors, config.gpus_per_actor)
        self._outcome = outcome or Outcome()

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Checks paths and connects to Ray."""
        check_path("--tables", self.config.tables)
        check_path("--outputs", self.config.outputs)
        start_ray()
        self.resources.model_workers()

    def micro_batch_size(self) -> int:
        """As given, or as in the stored plan, since rounding depends on it, or by device and memory."""
        if self.config.micro_batch_size:
            return self.config.micro_batch_size
        if stored := self.directory.read_json("_run", "plan.json"):
            return int(stored["settings"]["micro_batch_size"])
        if self.resources.uses_gpu:
            return self.gpu_rows  # its worker sees the free memory, and halves this if need be
        memory = cluster_resources()["memory"] / self.resources.model_workers().most
        return fitting_rows(self.memory_per_row, memory, 16)

    def make_plan(
        self,
        identity: dict[str, Any],
        settings: dict[str, Any],
        *,
        row_bytes: int = 0,
        reads: tuple[str, ...] = (),
    ) -> None:
        """Plans the units, or takes the stored plan up again; ends the process if there is nothing to do.

        Args:
            identity: what makes the rows.
            settings: what else must be the same when the run is resumed.
            row_bytes: about how many bytes are written for a row.
            reads: what workers read besides the tables, as paths or URLs.

        Raises:
            ValueError: an input cannot be read, or the output not be written (exit code 2).
            Refused: the output is another run's (exit code 4).
        """
        self.directory.check_foreign()
        plan = self._plan(identity, settings)
        self._refuse_or_complete(plan)
        url, files = self.directory.url, plan.files
        preflight.check_writable("--outputs", url)
        preflight.check_space("--outputs", url, plan.num_rows * row_bytes)
        check_nodes("--outputs", url, (files[0].path, files[-1].path, *reads))
        self.plan, self.pending = plan, plan.units
        if self.config.dry_run:
            RunLock(self.directory.outputs, log.error).check()
        else:
            self._take_up(plan)

    def _plan(self, identity: dict[str, Any], settings: dict[str, Any]) -> Plan:
        config = self.config
        batch = self.micro_batch_size()
        files = find_files(config.tables)
        units = plan_units(files, self.columns, micro_batch_size=batch, limit=config.limit)
        if not units:
            raise ValueError(f"--tables {redact(config.tables)}: no rows")
        rows, size = sum(u.num_rows for u in units), sum(f.size_bytes for f in files)
        counted = (self.stage, len(files), f"{size:,}", f"{rows:,}", len(units))
        log.info("%s: %d files, %s bytes, %s rows, %d units", *counted)
        return Plan(
            stage=self.stage,
            identity={"stage": self.stage, "format": 1, **identity},
            settings={
                "columns": list(self.columns.read),
                "schema": list(self.columns.schema),
                "limit": config.limit,
                "micro_batch_size": batch,
                **({"skip_first_line": True} if self.columns.skip_first_line else {}),
                **settings,
            },
            files=files,
            units=units,
        )

    def _refuse_or_complete(self, plan: Plan) -> None:
        """Ends here if the output holds another run, or this one complete."""
        stored = self.directory.read_json("_run", "plan.json")
        changed = differences(stored, plan) if stored else []
        if changed and not self.config.overwrite:
            raise Refused(
                f"{redact(self.directory.url)} holds a run with other settings ({'; '.join(changed)}); name "
                "another --outputs, or replace it with --overwrite"
            )
        complete = stored and not changed and self.directory.is_complete()
        if complete and not replacement.is_cut_short(*self._places()):
            log.info("already complete: %s", redact(self.config.outputs))
            raise Complete(0)

    def _take_up(self, plan: Plan) -> None:
        """Takes the lock, then writes the plan or goes on with the stored one."""
        self._outcome.lock(self.directory.outputs)
        if replacement.is_cut_short(*self._places()):
            log.info("finishing an --overwrite of %s that was cut short", redact(self.config.outputs))
            self._replace()
        self._refuse_or_complete(plan)  # again: before the lock another driver may have been at work
        stored = self.directory.read_json("_run", "plan.json")
        if stored and differences(stored, plan):
            self.directory = dataclasses.replace(self.directory, beside=True)
            log.info("--overwrite: writing to %s; the old run stays till the end", redact(self.directory.url))
            replacement.begin(*self._places(), plan.to_json(), lambda found: not differences(found, plan))
        elif not stored:
            self.directory.write_json(plan.to_json(), "_run", "plan.json")
        failpoint("planned")
        drop_what_broke(self.directory)
        self._outcome.began(self._write_summary)
        done = self.directory.committed()
        if done:
            log.info("resuming: %d of %d units are done", len(done), len(plan.units))
        self.pending = [u for u in plan.units if u.number not in done]

    def _places(self) -> tuple[Any, str, str]:
        """File system, directory of the table, and the one of a run that is to replace it."""
        old, new = (dataclasses.replace(self.directory, beside=beside) for beside in (False, True))
        fs, path = old.path()
        return fs, path, new.path()[1]

    def _replace(self) -> None:
        """Puts a complete run beside in the place of the old one."""
        new = dataclasses.replace(self.directory, beside=True)
        single = ("", "")
        if new.single_file:
            single = (joined_path(new), filesystem(new.outputs)[1])
        replacement.exchange(*self._places(), OURS, single)
        self.directory = dataclasses.replace(self.directory, beside=False)

    def sample(self, *steps: Step, build: Callable[..., pa.Table]) -> None:
        """--dry-run: does a few rows in this process, says what the run would take, and ends it.

        Args:
            steps: the operators between reading and writing.
            build: the part's table of a unit's row.
        """
        assert self.plan is not None
        workers = self.resources.model_workers().most
        needed = run_sample(self.plan, self.reader(), steps, build, num_workers=workers)
        preflight.check_space("--outputs", self.directory.url, needed)
        log.info("dry run: nothing written; fingerprint %s", self.plan.fingerprint[:16])
        raise Complete(0)

    def read(self) -> "ray.data.Dataset":
        """The first operator: the rows of the units that are not done."""
        import ray.data

        # Ray 2.60 has no named parameters for the retries and restarts that we bound, so it warns of leaving
        # them out in 2.64
        warnings.filterwarnings("ignore", message=".*ray_remote_args", category=DeprecationWarning)
        context = ray.data.DataContext.get_current()
        context.max_errored_blocks = 0  # Ray never drops a block: rows are rejected by us
        context.target_max_block_size = 1  # a block a unit, so that a unit moves on as soon as it is ready
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        items = group_units(self.pending)
        units = ray.data.from_items(items, override_num_blocks=min(len(items), 4096))
        return units.flat_map(self.reader().__call__, **self.resources.tasks(0.25))

    def reader(self) -> UnitReader:
        """What reads units."""
        assert self.plan is not None
        return UnitReader(
            files=self.plan.files,
            columns=self.columns,
            stage=self.stage,
            keep_rejected=self.config.keep_rejected,
        )

    def execute(self, commits: Callable[[], "ray.data.Dataset"], extra: dict[str, Any]) -> None:
        """Runs the operators over all pending units, then writes the manifest.

        Args:
            commits: the dataset of commit records; called only if units are pending.
            extra: what the manifest says besides.
        """
        assert self.plan is not None
        if self.pending:
            with self._progress.of(self.pending, self.plan.files):
                for record in commits().iter_rows():
                    failpoint("unit_counted")
                    self._progress.add(record)
                    self._progress.log(self._outcome.seconds)
            self._progress.log(self._outcome.seconds, now=True)
        records = read_records(self.directory, self.plan)
        check_ceiling(records, self.config, redact(self.directory.url))
        manifest = finish(self.directory, self.plan, records, extra)
        if self.directory.beside:
            self._replace()
        counts = [f"{manifest[name]:,}" for name in ("rows_in", "rows_out", "rows_rejected")]
        log.info(
            "%s: %s rows in, %s out, %s rejected -> %s", self.stage, *counts, redact(self.config.outputs)
        )

    def __exit__(self, *error: Any) -> Literal[False]:
        return self._outcome.__exit__(*error)

    def _write_summary(self, code: int, message: str, seconds: float) -> None:
        self.directory.write_json(self._progress.summary(code, message, seconds), "summary.json")
