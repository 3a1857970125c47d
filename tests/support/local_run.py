"""A table job without Ray: plan, lock, commits and end as in the jobs, its operators called here."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from painter_core.runs.cluster import Cluster
from painter_core.runs.flags import ModelFlags, TableFlags
from painter_core.runs.place import Place
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts
from painter_core.runs.table_run import TABLE, TableJob, TableRun
from painter_core.tables.columns import Columns, Encoding
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.unit_row import UnitRow

ROWS = 100
ALONE = Cluster(cpus=2, gpus=0, memory_bytes=2**32)


def write_input(path: Path) -> Path:
    """A TSV of 100 rows, of which rows 8, 18, ... are rejected."""
    lines = [f"{i}\t{'' if i % 10 == 7 else f'文 {i}'}" for i in range(ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


def idx_and_text(row: UnitRow) -> pa.Table:
    """The part of a unit."""
    return row.table.select(["idx", "text"])


def table_job(
    tables: object,
    outputs: object,
    *,
    seed: int = 1,
    micro_batch_size: int | None = None,
    memory_per_row: int = 0,
    encoding: Encoding = "utf-8",
    **flags: object,
) -> TableJob:
    """A job that copies idx and text."""
    return TableJob(
        stage="test",
        table="test",
        flags=TableFlags(tables=str(tables), outputs=str(outputs), max_reject_fraction=0.5, **flags),
        columns=Columns(schema=("idx", "text"), encoding=encoding),
        identity={"seed": seed},
        model=ModelFlags(micro_batch_size=micro_batch_size),
        row_bytes=100,
        memory_per_row=memory_per_row,
    )


def run_here(
    tables: object, outputs: object, *, seed: int = 1, micro_batch_size: int | None = 16, **flags: object
) -> int:
    """Runs the job to its end, and returns its micro-batch; SystemExit unless it is done."""
    with Run({}) as run:
        job = table_job(tables, outputs, seed=seed, micro_batch_size=micro_batch_size, **flags)
        table = TableRun(job, run, ALONE)
        table.execute_here(parts=Parts(build=idx_and_text))
        return table.micro_batch_size


def table_place(outputs: object) -> Place:
    """The place of a table."""
    directory = RunDirectory(str(outputs))
    single = ("", str(outputs)) if directory.single_file else ("", "")
    return Place(TABLE, "--outputs", directory.outputs, directory.url, directory.is_complete, single)


def training_lines(directory: Path) -> list[dict]:
    """Lines of a run's metrics.jsonl that tell of training steps, in order."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train_loss" in line]


def code_of(call: Callable[[], object]) -> int:
    """The exit code that a job ends with."""
    try:
        call()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def faults(directory: Path, fault: str) -> dict[str, str]:
    """Environment of a process with a fault; the counters begin at 0."""
    directory.mkdir(parents=True)
    return {
        "PAINTER_ENABLE_FAULTS": "1",
        "PAINTER_FAULT": fault,
        "PAINTER_FAULT_DIR": str(directory),
    }


def killed(call: Callable[[], object], environment: dict[str, str]) -> bool:
    """Runs a call in a child of this process; whether a fault killed it."""
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        try:
            call()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a directory."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def rows_of(root: Path) -> dict[str, bytes]:
    """The parts of a table, rejects too."""
    return {name: data for name, data in contents(root).items() if name.endswith(".parquet")}
