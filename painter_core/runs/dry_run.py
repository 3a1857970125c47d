"""--dry-run: a few rows really done, in the driver's process, and what the whole run would take by that."""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from painter_core.runs.steps import Actors, Parts, Step, run_here
from painter_core.tables.parquet import parquet_bytes
from painter_core.tables.plan import Plan
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import Unit

log = logging.getLogger(__name__)

SAMPLE_ROWS = 50


def run_sample(
    plan: Plan, reader: UnitReader, steps: Sequence[Step], parts: Parts, *, num_workers: int
) -> float:
    """Does the first rows of a plan, writes nothing, and logs the estimate.

    Args:
        steps: between reading and writing.
        num_workers: model workers of the run.

    Returns:
        About how many bytes the whole run will write.
    """
    began = time.monotonic()
    rows = rows_out = size = 0
    rejected: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for row in run_here(reader.read(_first_rows(plan.units)), steps):
        size += len(parquet_bytes(parts.build(row)))
        rows += row.rows_in
        rows_out += len(row.table)
        rejected.update(row.rejects.column("reason").to_pylist())
        warnings.update(row.warnings)
    seconds = time.monotonic() - began
    share = plan.num_rows / max(rows, 1)
    log.info(
        "dry run: sample of %d rows in this process: %d out, %d rejected %s, warnings %s, %.1f rows/s",
        rows,
        rows_out,
        rejected.total(),
        dict(rejected),
        dict(warnings),
        rows / seconds,
    )
    log.info(
        "dry run: all %s rows: about %.0f s with %d workers as fast as this process, %.1f MB of output",
        f"{plan.num_rows:,}",
        seconds * share / num_workers,
        num_workers,
        size * share / 1e6,
    )
    return size * share


def on_this_node(steps: Sequence[Step], most_rows: int) -> list[Step]:
    """The steps for this process, which may have no GPU where the workers have one: then on the CPU.

    Nothing is compiled then, and no more rows are taken at once than on CPUs: a GPU's hundreds, to which a
    sample of 50 is filled up, are more than a cluster's head has memory for.

    Args:
        most_rows: of a CPU's micro-batch.
    """
    from painter_core.compute.gpu import gpu_problem  # loads torch, which a job on CPUs does not need here

    if not gpu_problem():
        return list(steps)
    log.info("dry run: this process has no GPU, so the sample is computed on its CPU, slower than in the run")
    without = {"gpu": False, "graphs": "off", "compiled": False}
    found: list[Step] = []
    for step in steps:
        if isinstance(step, Actors):
            changed = {name: value for name, value in without.items() if name in step.arguments}
            if "micro_batch_size" in step.arguments:
                changed["micro_batch_size"] = min(most_rows, step.arguments["micro_batch_size"])
            step = dataclasses.replace(step, arguments=step.arguments | changed)
        found.append(step)
    return found


def _first_rows(units: list[Unit]) -> Iterator[Unit]:
    """The first units, the last of them cut, SAMPLE_ROWS rows in all."""
    left = SAMPLE_ROWS
    for unit in units:
        rows = min(left, unit.num_rows)
        # of a Parquet row group the unit's rows are counted; of a TSV reading stops after num_rows lines
        yield dataclasses.replace(unit, num_rows=rows)
        left -= rows
        if left == 0:
            return
