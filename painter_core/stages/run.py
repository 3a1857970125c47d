"""Running a table-to-table job: plan, resources, progress, summary."""

import ast
import dataclasses
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from painter_core.faults import failpoint
from painter_core.stages.commit import Plan, Refused, RunDirectory, differences
from painter_core.stages.launch import (
    Complete,
    Outcome,
    Stop,
    check_path,
    cluster_resources,
    parse_range,
    start_ray,
)
from painter_core.stages.manifest import finish
from painter_core.stages.plan import group_units, plan_units
from painter_core.stages.readers import UnitReader
from painter_core.stages.run_config import RunConfig
from painter_core.stages.tables import Columns, find_files
from painter_core.storage import absolute, redact

if TYPE_CHECKING:
    import ray.data

log = logging.getLogger(__name__)

PROGRESS_S = 10.0
BREAKER_ROWS = 1000


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
        self.plan: Plan | None = None
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._pending: list[Any] = []
        self._outcome = outcome or Outcome()

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Checks paths and connects to Ray."""
        check_path("--tables", self.config.tables)
        check_path("--outputs", self.config.outputs)
        start_ray()

    @property
    def uses_gpu(self) -> bool:
        """Whether model workers get a GPU."""
        gpus = cluster_resources().get("GPU", 0)
        wanted = self.config.gpus_per_actor
        if wanted and wanted > gpus:
            raise ValueError(f"--gpus-per-actor {wanted}: the cluster has {gpus:g} GPUs")
        return gpus > 0 if wanted is None else wanted > 0

    def micro_batch_size(self) -> int:
        """As given, or by device."""
        return self.config.micro_batch_size or (128 if self.uses_gpu else 16)

    def make_plan(self, identity: dict[str, Any], settings: dict[str, Any]) -> None:
        """Plans the units, or takes the stored plan up again; ends the process if there is nothing to do.

        Raises:
            ValueError: an input cannot be read (exit code 2).
            Refused: the output is another run's (exit code 4).
        """
        self.directory.check_foreign()
        config = self.config
        batch = self.micro_batch_size()
        files = find_files(config.tables)
        units = plan_units(files, self.columns, micro_batch_size=batch, limit=config.limit)
        if not units:
            raise ValueError(f"--tables {redact(config.tables)}: no rows")
        settings = {
            "columns": list(self.columns.read),
            "schema": list(self.columns.schema),
            "limit": config.limit,
            "micro_batch_size": batch,
            **({"skip_first_line": True} if self.columns.skip_first_line else {}),
            **settings,
        }
        plan = Plan(
            stage=self.stage,
            identity={"stage": self.stage, "format": 1, **identity},
            settings=settings,
            files=files,
            units=units,
        )
        rows, size = plan.num_rows, sum(f.size_bytes for f in files)
        log.info(
            "%s: %d files, %s bytes, %s rows, %d units",
            self.stage,
            len(files),
            f"{size:,}",
            f"{rows:,}",
            len(units),
        )
        self._take_up(plan)

    def _take_up(self, plan: Plan) -> None:
        stored = self.directory.read_json("_run", "plan.json")
        changed = differences(stored, plan) if stored else []
        if changed and not self.config.overwrite:
            raise Refused(
                f"{redact(self.directory.url)} holds a run with other settings ({'; '.join(changed)}); "
                "name another "
                "--outputs, or remove it with --overwrite"
            )
        if self.config.dry_run:
            log.info("dry run: nothing written; fingerprint %s", plan.fingerprint[:16])
            raise SystemExit(0)
        if changed:
            log.info("--overwrite: removing the earlier run in %s", redact(self.directory.url))
            self.directory.clear()
            stored = None
        if stored and self.directory.read_json("manifest.json"):
            log.info("already complete: %s", redact(self.config.outputs))
            raise Complete(0)
        if not stored:
            self.directory.write_json(plan.to_json(), "_run", "plan.json")
        self.plan = plan
        self._outcome.began(self._write_summary)
        done = self.directory.committed()
        if done:
            log.info("resuming: %d of %d units are done", len(done), len(plan.units))
        self._pending = [u for u in plan.units if u.number not in done]

    def units(self) -> "ray.data.Dataset":
        """The units that are not done, as a dataset of groups that are read together."""
        import ray.data

        # Ray 2.60 has no named parameters for the retries and restarts that we bound, so it warns of leaving
        # them out in 2.64
        warnings.filterwarnings("ignore", message=".*ray_remote_args", category=DeprecationWarning)
        context = ray.data.DataContext.get_current()
        context.max_errored_blocks = 0  # Ray never drops a block: rows are rejected by us
        context.target_max_block_size = 1  # a block a unit, so that a unit moves on as soon as it is ready
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        groups = group_units(self._pending)
        items = [{"units": [dataclasses.asdict(u) for u in group]} for group in groups]
        return ray.data.from_items(items, override_num_blocks=min(len(items), 4096))

    def reader(self) -> Callable[[dict[str, Any]], Any]:
        """The first operator."""
        assert self.plan is not None
        return UnitReader(
            files=self.plan.files,
            columns=self.columns,
            stage=self.stage,
            keep_rejected=self.config.keep_rejected,
        ).__call__

    def tasks(self, num_cpus: float) -> dict[str, Any]:
        """Resources of a CPU operator: a share of a CPU where models need CPUs too, so that they overlap."""
        return {"num_cpus": num_cpus if self.uses_gpu else num_cpus / 5, "max_retries": 3}

    def actors(self) -> dict[str, Any]:
        """Resources of the model operator: not its neighbours', or Ray would fuse them into one."""
        available = cluster_resources()
        gpus = (self.config.gpus_per_actor or 1.0) if self.uses_gpu else 0.0
        most = int(available["GPU"] / gpus) if gpus else int(available["CPU"])
        low, high = parse_range("--num-actors", self.config.num_actors) or (most, most)
        num_cpus = 1.0 if gpus else 0.75
        if low > most or low * num_cpus > available["CPU"]:
            raise ValueError(f"--num-actors {low}: the cluster has room for {most} model workers")
        # no more workers than units; restarts are bounded, or a unit that kills its worker would run for ever
        low, high = min(low, len(self._pending)), min(high, len(self._pending))
        log.info("%d..%d model workers, %g GPUs each", low, high, gpus)
        import ray.data

        pool = ray.data.ActorPoolStrategy(min_size=low, max_size=high)
        return {
            "compute": pool,
            "num_cpus": num_cpus,
            "num_gpus": gpus,
            "max_restarts": 4,
            "max_task_retries": 2,
        }

    def execute(self, commits: Callable[[], "ray.data.Dataset"], extra: dict[str, Any]) -> None:
        """Runs the operators over all pending units, then writes the manifest.

        Args:
            commits: the dataset of commit records; called only if units are pending.
            extra: what the manifest says besides.
        """
        assert self.plan is not None
        total, last = sum(u.num_rows for u in self._pending), time.monotonic()
        if self._pending:
            for record in commits().iter_rows():
                self._count(record)
                if time.monotonic() - last > PROGRESS_S:
                    last = time.monotonic()
                    self._progress(total)
            self._progress(total)
        records = [
            self.directory.read_json("_run", "commits", f"{u.number:06d}.json") for u in self.plan.units
        ]
        rows = sum(r["rows_in"] for r in records if r)
        rejected: Counter[str] = Counter()
        for record in records:
            rejected.update(record["rejected"] if record else {})
        ceiling = self.config.max_reject_fraction
        if rows == 0:
            raise Stop(3, f"{redact(self.config.tables)} has no rows, only blank lines")
        if rejected.total() > ceiling * rows or rejected.total() == rows:
            reasons = ", ".join(f"{n} {reason}" for reason, n in rejected.most_common(5))
            raise Stop(
                3,
                f"{rejected.total():,} of {rows:,} rows were rejected ({reasons}), more than "
                "--max-reject-fraction "
                f"{ceiling:g}; see {redact(self.directory.url)}/rejects. All other rows are committed: "
                "to accept the "
                "loss, submit again with a larger --max-reject-fraction",
            )
        finish(self.directory, self.plan, extra)
        log.info(
            "%s: %s rows in, %s out, %s rejected -> %s",
            self.stage,
            f"{rows:,}",
            f"{rows - rejected.total():,}",
            f"{rejected.total():,}",
            redact(self.config.outputs),
        )

    def _count(self, record: dict[str, Any]) -> None:
        failpoint("unit_counted")
        self._counts.update(units=1, rows_in=record["rows_in"], rows_out=record["rows_out"])
        self._rejected.update(ast.literal_eval(record["rejected"]))
        rows = self._counts["rows_in"]
        if rows >= BREAKER_ROWS and rows - record["rows_in"] < BREAKER_ROWS:
            reason, count = next(iter(self._rejected.most_common(1)), ("", 0))
            if count > rows / 2:
                raise Stop(
                    3,
                    f"{count:,} of the first {rows:,} rows were rejected as {reason}: "
                    "this is not your data, or "
                    f"not these columns; see {redact(self.directory.url)}/rejects",
                )

    def _progress(self, total: int) -> None:
        rows, seconds = self._counts["rows_in"], self._outcome.seconds
        rate = rows / max(seconds, 1e-9)
        eta = (total - rows) / rate if rate else float("inf")
        log.info(
            "%s: %d of %d units, %s of %s rows, %d rejected, %.1f rows/s, %.0f s left",
            self.stage,
            self._counts["units"],
            len(self._pending),
            f"{rows:,}",
            f"{total:,}",
            self._rejected.total(),
            rate,
            eta,
        )

    def __exit__(self, *error: Any) -> Literal[False]:
        return self._outcome.__exit__(*error)

    def _write_summary(self, code: int, message: str, seconds: float) -> None:
        self.directory.write_json(
            {
                "stage": self.stage,
                "exit_code": code,
                "message": message,
                "units_done": self._counts["units"],
                "units_pending": len(self._pending) - self._counts["units"],
                "rows_in": self._counts["rows_in"],
                "rows_out": self._counts["rows_out"],
                "rejected": dict(self._rejected.most_common()),
                "seconds": round(seconds, 3),
                "rows_per_s": round(self._counts["rows_in"] / seconds, 3),
                "next": "" if code == 0 else "submit the same command again" if code in (1, 130) else message,
            },
            "summary.json",
        )
