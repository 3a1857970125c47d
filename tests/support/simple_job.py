"""python -m tests.support.simple_job: a table job on Ray whose model workers only wait.

A unit takes --seconds; the worker that is given unit --poison dies each time.
"""

import os
import sys
import time
from dataclasses import dataclass

from painter_core.files.faults import failpoint
from painter_core.runs.cluster import start_ray
from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts
from painter_core.runs.table_run import TableRun
from painter_core.tables.unit_row import UnitRow
from tests.support.local_run import idx_and_text, table_job


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Model operator without a model."""

    seconds: float
    poison: int

    def __call__(self, row: UnitRow) -> UnitRow:
        import ray

        time.sleep(self.seconds)
        failpoint("unit_computed", unit=row.unit, node=ray.get_runtime_context().get_node_id())
        if row.unit == self.poison:
            os._exit(1)
        return row


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the command line says."""

    tables: str
    outputs: str
    seconds: float = 0.2
    poison: int = -1


def main() -> None:
    """The job, as the scripts in jobs/ are made."""
    flags = parse(Flags, __doc__)
    with Run({}) as run:
        cluster = start_ray()
        table = TableRun(table_job(flags.tables, flags.outputs, micro_batch_size=16), run, cluster)
        table.execute(
            Actors(operator=Wait, arguments={"seconds": flags.seconds, "poison": flags.poison}),
            parts=Parts(build=idx_and_text),
        )


if __name__ == "__main__":
    sys.exit(main())
