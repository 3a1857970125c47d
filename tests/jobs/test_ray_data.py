"""What Ray Data hands the driver of a table job, and when."""

import subprocess
import sys
from pathlib import Path

from tests.support.jobs import JOB_TIMEOUT_S, ROOT, Jobs

# the second unit is done when the first one was counted, or after ten seconds
COUNTING = """
import sys, time
from collections import Counter
from pathlib import Path

import pyarrow as pa

from painter_core.runs.cluster import start_ray
from painter_core.runs.flags import ModelFlags
from painter_core.runs.ray_data import Resources, counted_units
from painter_core.tables.unit_row import UnitRow
from painter_core.tables.units import Unit

counted = Path(sys.argv[1])
empty = pa.table({"idx": pa.array([], pa.string())})

def read(group):
    for unit in group["units"]:
        yield UnitRow(unit=unit["number"], rows_in=1, table=empty, rejects=empty, warnings=Counter())

def write(row):
    deadline = time.monotonic() + 10 * row.unit
    while not counted.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return {"unit": row.unit, "told": counted.exists()}

cluster = start_ray()
units = [Unit(number=n, file=0, row_group=-1, start=0, stop=1, first_row=1, num_rows=1) for n in (0, 1)]
resources = Resources(cluster=cluster, flags=ModelFlags())
for record in counted_units(units, read, [], write, part_cpus=0.5, resources=resources):
    print(record)
    counted.touch()

import ray
ray.shutdown()
try:
    ray.wait([ray.ObjectRef.nil()], timeout=0)
except ray.exceptions.RaySystemError:
    print("Ray stays as it was left:", not ray.is_initialized())
"""


def test_a_unit_is_counted_when_it_is_done_and_ray_is_left_for_good(jobs: Jobs, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, tmp_path / "counted"], env=jobs.environment, cwd=ROOT,
        capture_output=True, text=True, timeout=JOB_TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "{'unit': 0, 'told': False}",
        "{'unit': 1, 'told': True}",
        "Ray stays as it was left: True",
    ], done.stderr
