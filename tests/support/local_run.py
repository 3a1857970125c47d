"""A table job without Ray: plan, lock, commits and end as in the jobs, its operators called here."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from painter_core.runs.run_config import RunConfig
from painter_core.runs.table_run import Job
from painter_core.tables.columns import Columns
from painter_core.tables.part_writer import PartWriter
from painter_core.tables.unit_row import unpack

ROWS = 100


def write_input(path: Path) -> Path:
    """A TSV of 100 rows, of which rows 8, 18, ... are rejected."""
    lines = [f"{i}\t{'' if i % 10 == 7 else f'文 {i}'}" for i in range(ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


class Commits:
    """What the jobs get from Ray Data: the records of all pending units."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def iter_rows(self) -> Iterator[dict]:
        reader, writer = self._job.reader(), PartWriter(directory=self._job.directory, build=idx_and_text)
        for row in reader.read(self._job.pending):
            yield writer(row)


def idx_and_text(row: dict) -> pa.Table:
    """The part of a unit."""
    return unpack(row["table"]).select(["idx", "text"])


def run_here(tables: object, outputs: object, *, seed: int = 1, **flags: object) -> None:
    """Runs the job to its end; SystemExit unless it is done."""
    config = RunConfig(
        tables=str(tables), outputs=str(outputs), micro_batch_size=16, max_reject_fraction=0.5, **flags
    )
    with Job("test", config, Columns(schema=("idx", "text"))) as job:
        job.make_plan({"seed": seed}, {}, row_bytes=100)
        job.execute(lambda: Commits(job), {"table": "test"})


def training_lines(directory: Path) -> list[dict]:
    """Lines of a run's metrics.jsonl that tell of training steps, in order."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train_loss" in line]


def code_of(call: Callable[[], object]) -> int:
    """The exit code that a job ends with."""
    with pytest.raises(SystemExit) as end:
        call()
    return int(end.value.code or 0)


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
