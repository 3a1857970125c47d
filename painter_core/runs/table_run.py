"""Running a table-to-table job: plan, take-up, the steps over all units, the end of the table."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from painter_core.compute.memory import fitting_rows
from painter_core.files.faults import failpoint
from painter_core.files.storage import absolute, filesystem, redact
from painter_core.runs import preflight
from painter_core.runs.cluster import Cluster, count_told
from painter_core.runs.compiling import is_compiled
from painter_core.runs.dry_run import on_this_node, run_sample
from painter_core.runs.flags import ModelFlags, TableFlags
from painter_core.runs.passes import OnePass, in_passes
from painter_core.runs.place import Kind, Place
from painter_core.runs.progress import Progress, check_ceiling, drop_what_broke
from painter_core.runs.ray_data import Resources, counted_units
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts, Step, name_of, run_here
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.manifest import finish, joined_path, read_records
from painter_core.tables.part_writer import PartWriter, counted
from painter_core.tables.plan import Plan, stored_units
from painter_core.tables.reader import UnitReader
from painter_core.tables.rejects import describe_warnings
from painter_core.tables.run_directory import OURS, RunDirectory
from painter_core.tables.units import Unit, call_rows, cut_units, find_slices, planned_rows

log = logging.getLogger(__name__)

CPU_ROWS = 16  # of a micro-batch
PROCESS_BYTES = 350 * 2**20  # of a worker besides its model: torch and Ray
TABLE = Kind(plan_key="units", ours=OURS)


@dataclass(frozen=True, kw_only=True)
class TableJob:
    """What a stage says of its job; the steps come with the execution."""

    stage: str
    """precompute, generate, evaluate ..."""
    table: str
    """What kind of table it writes, as the manifest says: codes, outputs, scores."""
    flags: TableFlags
    columns: Columns
    """What is read."""
    identity: dict[str, Any]
    """What makes the rows: its sha256 is the fingerprint."""
    model: ModelFlags = field(default_factory=ModelFlags)
    settings: dict[str, Any] = field(default_factory=dict)
    """What else must be the same when the run is resumed."""
    row_bytes: int = 0
    """About how many bytes are written for a row."""
    memory_per_row: int = 0
    """Bytes that the model needs for a row."""
    weights_bytes: int = 0
    """Bytes of the model's weights, which every worker loads."""
    pictures_a_row: int = 1
    """Pictures that are decoded or painted for a row."""
    picture_bytes: int = 0
    """Bytes of one such picture, decoded."""
    gpu_rows: int = 128
    """Rows of a GPU's micro-batch."""
    compiled_from: int = 20_000
    """Pictures a GPU from which compiling saves more than it takes; encoding, on an H200 (RESULTS.md)."""
    large_units: bool = False
    """Whether units are large where a GPU computes."""
    growth: int = 1
    """How many times larger a row may be in the output: units are that much smaller."""
    cpu_rows: int = CPU_ROWS
    """Rows of a CPU's micro-batch, in a table that is large enough."""
    reads: tuple[str, ...] = ()
    """What workers read besides the tables, as paths or URLs."""
    manifest: dict[str, Any] = field(default_factory=dict)
    """What the manifest says besides."""
    outputs_flag: str = "--outputs"
    """The flag that names the output, for messages."""


class TableRun:
    """One run of a table job: planned and taken up when it is made.

    Args:
        job: what is to be done.
        run: of the process.
        cluster: what the operators run on.

    Raises:
        ValueError: an input cannot be read, or the output not be written (exit code 2).
        Refused: the output is another run's (exit code 4).
    """

    def __init__(self, job: TableJob, run: Run, cluster: Cluster) -> None:
        self.job, self._run = job, run
        self.directory = RunDirectory(absolute(job.flags.outputs))
        worker_bytes = job.weights_bytes and job.weights_bytes + job.memory_per_row + PROCESS_BYTES
        self.resources = Resources(cluster=cluster, flags=job.model, worker_bytes=worker_bytes)
        rejects = redact(self.directory.url) + "/rejects"
        self._progress = Progress(job.stage, rejects, job.flags.max_reject_fraction)
        self._place = self._find_place()
        self._place.check_foreign()
        self.plan = self._plan()
        self.pending: list[Unit] = []
        """Units that are not done."""
        self.writes = False
        """Whether there is something to do and to write: not if the table is complete, or in a dry run."""
        self._take_up()

    def _micro_batch_size(self, rows: int) -> int:
        """As given, or as in the stored plan, since rounding depends on it, or by device, memory and table.

        Args:
            rows: of the table.
        """
        if self.job.model.micro_batch_size:
            return self.job.model.micro_batch_size
        if stored := self.directory.read_json("_run", "plan.json"):
            # of another kind of run it has none, which is then refused
            return int(stored.get("settings", {}).get("micro_batch_size", CPU_ROWS))
        if self.resources.uses_gpu:
            return self.job.gpu_rows  # its worker sees the free memory, and halves this if need be
        memory = self.resources.cluster.memory_bytes / self.resources.model_workers().most
        most = call_rows(rows, self.job.cpu_rows, CPU_ROWS, self.job.pictures_a_row)
        return fitting_rows(self.job.memory_per_row, memory, most)

    def _is_compiled(self, pictures: int) -> bool:
        """As in the stored plan, whose run goes on as it began, or by what there is to do."""
        if stored := self.directory.read_json("_run", "plan.json"):
            return bool(stored.get("settings", {}).get("compile", False))
        return is_compiled(pictures, self.resources.model_workers().most, self.job.compiled_from)

    def _find_place(self) -> Place:
        directory, single = self.directory, ("", "")
        if directory.single_file:
            beside = dataclasses.replace(directory, beside=True)
            single = (joined_path(beside), filesystem(directory.outputs)[1])
        outputs, flag = directory.outputs, self.job.outputs_flag
        return Place(TABLE, flag, outputs, directory.url, directory.is_complete, single)

    def _plan(self) -> Plan:
        job, flags = self.job, self.job.flags
        files = find_files(flags.tables, outputs=self.directory.outputs)
        slices = find_slices(files, job.columns)
        rows = planned_rows(slices, flags.limit)
        self.micro_batch_size = self._micro_batch_size(rows)
        if job.settings.get("compile") == "auto":
            settings = job.settings | {"compile": self._is_compiled(rows * job.pictures_a_row)}
            self.job = job = dataclasses.replace(job, settings=settings)
        units = cut_units(
            slices,
            micro_batch_size=self.micro_batch_size,
            limit=flags.limit,
            pictures_a_row=job.pictures_a_row,
            picture_bytes=job.picture_bytes,
            large=job.large_units and self.resources.uses_gpu,
            growth=job.growth,
        )
        if not units:
            raise ValueError(f"--tables {redact(flags.tables)}: no rows")
        rows, size = sum(u.num_rows for u in units), sum(f.size_bytes for f in files)
        number = count_told(len(files), len(files), "file")
        found = f"{number}, {size:,} bytes, {rows:,} rows, {len(units)} units"
        log.info("%s: %s", job.stage, found)
        return Plan(
            stage=job.stage,
            identity={"stage": job.stage, "format": 1, **job.identity},
            settings={
                "columns": list(job.columns.read),
                "schema": list(job.columns.schema),
                "limit": flags.limit,
                "micro_batch_size": self.micro_batch_size,
                **({"skip_first_line": True} if job.columns.skip_first_line else {}),
                **({"quoting": job.columns.quoting} if job.columns.quoting != "none" else {}),
                **({"encoding": job.columns.encoding} if job.columns.encoding != "utf-8" else {}),
                **job.settings,
            },
            files=files,
            units=units,
        )

    def _take_up(self) -> None:
        files, flags = self.plan.files, self.job.flags
        taken = self._place.take_up(
            self._run,
            self.plan.to_json(),
            overwrite=flags.overwrite,
            dry_run=flags.dry_run,
            needed_bytes=self.plan.num_rows * self.job.row_bytes,
            reads=(files[0].path, files[-1].path, *self.job.reads),
        )
        if taken is None:
            return
        self.plan = dataclasses.replace(self.plan, units=stored_units(taken))
        self.pending = self.plan.units
        if flags.dry_run:
            return
        self.writes = True
        self.directory = dataclasses.replace(self.directory, beside=self._place.is_beside)
        failpoint("planned")
        drop_what_broke(self.directory)
        self._run.began(self._write_summary)
        done = self.directory.committed()
        if done:
            log.info("resuming: %d of %d units are done", len(done), len(self.plan.units))
        self.pending = [u for u in self.plan.units if u.number not in done]

    @property
    def reader(self) -> UnitReader:
        """What reads the units."""
        return UnitReader(
            files=self.plan.files,
            columns=self.job.columns,
            stage=self.job.stage,
            keep_rejected=self.job.flags.keep_rejected,
        )

    def execute(self, *steps: Step, parts: Parts) -> None:
        """Does what is to be done, on the cluster; in a dry run a sample of it, here.

        Args:
            steps: from the reader's units to what `parts` needs.
            parts: makes and writes the parts.
        """
        if self.job.flags.dry_run and self.pending:
            workers = self.resources.model_workers().most
            here = on_this_node(steps, CPU_ROWS) if self.resources.uses_gpu else steps
            needed = run_sample(self.plan, self.reader, here, parts, num_workers=workers)
            preflight.check_space(self.job.outputs_flag, self.directory.url, needed)
            log.info("dry run: nothing written; fingerprint %s", self.plan.fingerprint[:16])
        elif self.writes:
            if self.pending:
                self._count(in_passes(self.pending, self._pass(steps, parts), self._committed_of))
            self._finish()

    def _pass(self, steps: Sequence[Step], parts: Parts) -> OnePass:
        """Does units on the cluster; from the second call on, on what is left of it."""
        writer, reader = PartWriter(directory=self.directory, build=parts.build), self.reader
        found: list[Resources] = []

        def one_pass(units: list[Unit]) -> Iterator[dict[str, Any]]:
            found.append(found[-1].after_loss() if found else self.resources)
            self._progress.steps = ("read", *(name_of(step.operator) for step in steps), "write")
            self._progress.workers = found[-1].told(steps)
            return counted_units(
                units, reader, steps, writer, part_cpus=parts.cpus, resources=found[-1]
            )  # fmt: skip

        return one_pass

    def _committed_of(self, units: list[Unit]) -> list[dict[str, Any]]:
        """Those of these units that have a commit."""
        done = self.directory.committed()
        return [counted(self.directory.read_record(u.number)) for u in units if u.number in done]

    def execute_here(self, *steps: Step, parts: Parts) -> None:
        """The same, in this process, one unit after the other."""
        if self.writes:
            writer = PartWriter(directory=self.directory, build=parts.build)
            if self.pending:
                self._count(writer(row) for row in run_here(self.reader.read(self.pending), steps))
            self._finish()

    def _count(self, records: Iterator[dict[str, Any]]) -> None:
        with self._progress.of(self.pending, self.plan.files):
            for record in records:
                failpoint("unit_counted")
                self._progress.add(record)
                self._progress.log(self._run.seconds)
        self._progress.log(self._run.seconds, now=True)

    def _finish(self) -> None:
        """All units are committed: the manifest, and for a run beside another one its place."""
        flags = self.job.flags
        records = read_records(self.directory, self.plan)
        check_ceiling(records, flags, self.directory)
        extra = {"table": self.job.table, **self.job.manifest}
        manifest = finish(self.directory, self.plan, records, extra)
        if self.directory.beside:
            self._place.replace()
            self.directory = dataclasses.replace(self.directory, beside=False)
        counts = [f"{manifest[name]:,}" for name in ("rows_in", "rows_out", "rows_rejected")]
        log.info("%s: %s rows in, %s out, %s rejected -> %s", self.job.stage, *counts, redact(flags.outputs))
        for line in describe_warnings(manifest["warnings"]):
            log.warning("%s: kept, but noticed: %s", self.job.stage, line)

    def _write_summary(self, code: int, message: str, seconds: float) -> None:
        self.directory.write_json(self._progress.summary(code, message, seconds), "summary.json")
