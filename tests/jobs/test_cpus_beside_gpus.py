"""CPUs of model workers that have GPUs: reading, decoding and writing always get some too."""

import subprocess
import sys

import pytest

from painter_core.runs.cluster import Cluster
from painter_core.runs.flags import ModelFlags
from painter_core.runs.ray_data import Resources
from tests.support.jobs import ROOT
from tests.support.nodes import of_own_ray

# as many GPUs as CPUs; the model operator only passes units on
AS_MANY = """
from collections import Counter

import pyarrow as pa
import ray

from painter_core.runs import ray_messages
from painter_core.runs.cluster import present_cluster
from painter_core.runs.flags import ModelFlags
from painter_core.runs.ray_data import Resources, counted_units
from painter_core.runs.steps import Actors, Tasks
from painter_core.tables.unit_row import UnitRow
from painter_core.tables.units import Unit

empty = pa.table({"idx": pa.array([], pa.string())})

def read(group):
    for unit in group["units"]:
        yield UnitRow(unit=unit["number"], rows_in=1, table=empty, rejects=empty, warnings=Counter())

class Model:
    def __call__(self, row):
        return row

ray_messages.set_variables()
ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, **ray_messages.options())
units = [Unit(number=n, file=0, row_group=-1, start=0, stop=1, first_row=1, num_rows=1) for n in range(6)]
resources = Resources(cluster=present_cluster(can_grow=False), flags=ModelFlags())
steps = [Tasks(operator=lambda row: row), Actors(operator=Model, arguments={})]
found = counted_units(units, read, steps, lambda row: {"unit": row.unit}, part_cpus=1.0, resources=resources)
print(resources.told(steps), sorted(record["unit"] for record in found))
"""


def test_a_job_ends_where_there_are_as_many_gpus_as_cpus() -> None:
    environment = of_own_ray(CUDA_VISIBLE_DEVICES="99")  # Ray counts the names
    done = subprocess.run(
        [sys.executable, "-c", AS_MANY],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "1 worker [0, 1, 2, 3, 4, 5]\n", done.stderr


def resources(cpus: float, gpus: float, *, can_grow: bool = False, **flags: object) -> Resources:
    cluster = Cluster(cpus=cpus, gpus=gpus, memory_bytes=2**40, can_grow=can_grow)
    return Resources(cluster=cluster, flags=ModelFlags(**flags))


@pytest.mark.parametrize(
    ("cpus", "gpus", "flags", "workers", "worker_cpus"),
    [
        (2, 1, {}, 1, 1.0),
        (16, 8, {}, 8, 1.0),
        (64, 2, {"gpus_per_actor": 0.25}, 8, 1.0),
        (4, 4, {"num_actors": "2"}, 2, 1.0),
        (1, 1, {}, 1, 0.75),
        (4, 4, {}, 4, 0.75),
        (4, 1, {"gpus_per_actor": 0.25}, 4, 0.75),
        (4, 4, {"num_actors": "1,8"}, 8, 0.75),
        (4, 3, {}, 3, 0.75),
        (4, 0, {}, 4, 0.75),
        (4, 2, {"gpus_per_actor": 0}, 4, 0.75),
    ],
)
def test_what_workers_leave(cpus: int, gpus: int, flags: dict, workers: int, worker_cpus: float) -> None:
    for can_grow in (False, True):
        found = resources(cpus, gpus, can_grow=can_grow, **flags)
        made, largest = found.model_workers(), found.tasks(1.0)
        assert (made.most, made.num_cpus) == (workers, worker_cpus)
        left = cpus - min(workers, cpus) * worker_cpus
        assert left >= largest["num_cpus"], "else no task would ever run"
        assert ("compute" in largest) == (worker_cpus < 1), "small tasks are bounded in number"


def test_more_gpus_than_cpus_are_refused() -> None:
    with pytest.raises(ValueError, match="--num-actors 4: the cluster has room for 3 model workers"):
        resources(3, 4).model_workers()
    assert resources(3, 4, num_actors="3").model_workers().most == 3
