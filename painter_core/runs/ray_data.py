"""Steps as a Ray Data pipeline over units: the one place that knows how a table job runs on a cluster."""

import dataclasses
import itertools
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from painter_core.runs.cluster import (
    Cluster,
    GpuWait,
    count_told,
    parse_range,
    present_cluster,
    wait_for,
    wanted_workers,
)
from painter_core.runs.flags import ModelFlags
from painter_core.runs.steps import Actors, Step, Tasks, name_of, run_here
from painter_core.tables.part_writer import PartWriter
from painter_core.tables.reader import UnitReader
from painter_core.tables.unit_row import UnitRow
from painter_core.tables.units import Unit, group_units

log = logging.getLogger(__name__)

TASK_CPUS = 0.2  # of what a CPU task asks for, where models need CPUs too
SHARING_CPUS = 0.75  # of a model worker there, which leaves room for a task beside it
READ_CPUS = 0.25
REPLACEMENT_S = 60.0  # in which a node that was the last of its kind may be replaced, without --wait-for-gpus


@dataclass(frozen=True, kw_only=True)
class ModelWorkers:
    """How many model workers there are to be, and on what."""

    least: int
    most: int
    num_cpus: float
    """CPUs of each worker."""
    num_gpus: float
    """GPUs of each worker."""
    grows: bool
    """Whether nodes that join get workers too, without an upper bound."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How much of the cluster each operator may use."""

    cluster: Cluster
    flags: ModelFlags
    worker_bytes: int = 0
    """Memory of a model worker that runs on CPUs; 0 if no model is run."""
    takes_less: bool = False
    """Whether fewer workers than --num-actors says will do, since nodes were lost."""

    @property
    def uses_gpu(self) -> bool:
        """Whether model workers get a GPU."""
        return self.flags.uses_gpu(self.cluster)

    def after_loss(self) -> "Resources":
        """The same on the nodes that are left, which may have to be waited for.

        Model workers stay on what they began on: another kind of device would round otherwise.

        Raises:
            ValueError: there is no room for one.
        """
        gpus = (self.flags.gpus_per_actor or 1.0) if self.uses_gpu else 0.0
        seconds = max(REPLACEMENT_S, self.flags.wait_for_gpus)
        cluster = present_cluster(can_grow=self.cluster.can_grow)
        if gpus:
            cluster = wait_for(cluster, GpuWait(gpus=gpus, seconds=seconds))
        deadline = time.monotonic() + seconds
        while cluster.cpus < 1 and time.monotonic() < deadline:
            time.sleep(1.0)
            cluster = present_cluster(can_grow=self.cluster.can_grow)
        flags = dataclasses.replace(self.flags, gpus_per_actor=gpus)
        return dataclasses.replace(self, cluster=cluster, flags=flags, takes_less=True)

    @property
    def worker_cpus(self) -> float:
        """CPUs of a model worker: 1 where it has a GPU and leaves tasks a CPU or more, else SHARING_CPUS.

        Workers that held every CPU would wait for ever for tasks that get none. A node may have no more CPUs
        than GPUs, and --gpus-per-actor puts several workers on one.
        """
        if not self.uses_gpu:
            return SHARING_CPUS
        now = int(self.cluster.gpus / (self.flags.gpus_per_actor or 1.0))
        _, most = parse_range("--num-actors", self.flags.num_actors) or (1, now)
        return 1.0 if self.cluster.cpus >= 2 * min(most, now) else SHARING_CPUS

    def model_workers(self) -> ModelWorkers:
        """As many as CPUs or GPUs and memory have room for, or as --num-actors says.

        Raises:
            ValueError: there is no room for the least that it says.
        """
        cluster = self.cluster
        gpus = (self.flags.gpus_per_actor or 1.0) if self.uses_gpu else 0.0
        default = int(cluster.gpus / gpus) if gpus else int(cluster.cpus)
        room = min(default, int(cluster.cpus))
        if self.worker_bytes and not gpus:
            default = max(1, min(default, int(cluster.memory_bytes / self.worker_bytes)))
        least, most = wanted_workers(
            "--num-actors",
            self.flags.num_actors,
            room,
            f"room for {room} model workers",
            default=(default, default),
            takes_less=self.takes_less,
        )
        fits = gpus > 0 or default == int(cluster.cpus)  # else memory is what bounds their number
        grows = cluster.can_grow and self.flags.num_actors is None and fits
        cpus = self.worker_cpus
        return ModelWorkers(least=least, most=most, num_cpus=cpus, num_gpus=gpus, grows=grows)

    def told(self, steps: Sequence[Step]) -> str:
        """How many model workers these steps get, for people; empty if they need none."""
        if not any(isinstance(step, Actors) for step in steps):
            return ""
        found = self.model_workers()
        return count_told(found.least, found.most, "worker")

    def tasks(self, num_cpus: float) -> dict[str, Any]:
        """Options of a CPU operator.

        Where models need the CPUs too (all of them run on CPUs, or there are few beside the GPUs), a task
        asks for little, so that they overlap, and tasks are bounded in number instead: each may start a
        process, which costs 2 s of a CPU and 200 MB.

        Args:
            num_cpus: CPUs of a task; where models need them too, the share of all CPUs that the operator may
                have.
        """
        if self.worker_cpus == 1:
            return {"num_cpus": num_cpus, "max_retries": 3}
        import ray.data

        most = max(1, round(num_cpus * self.cluster.cpus))
        pool = ray.data.TaskPoolStrategy(size=most)
        return {"num_cpus": TASK_CPUS * num_cpus, "max_retries": 3, "compute": pool}

    def actors(self, num_units: int) -> dict[str, Any]:
        """Options of the model operator: not its neighbours', or Ray would fuse them into one.

        Args:
            num_units: that are to be done; there are no more workers than these.
        """
        import ray.data

        found = self.model_workers()
        least, most = min(found.least, num_units), min(found.most, num_units)
        joining = ", and more on nodes that join" if found.grows else ""
        device = f"{found.num_gpus:g} GPUs each" if found.num_gpus else "on CPUs"
        log.info("%s, %s%s", count_told(least, most, "model worker"), device, joining)
        # a second call unpacks the next unit, and packs the last one, beside the model's own
        calls = 2 if found.num_gpus else 1
        return {
            "compute": ray.data.ActorPoolStrategy(
                min_size=least,
                max_size=num_units if found.grows else most,
                max_concurrent_calls_per_actor=calls,
            ),
            "num_cpus": found.num_cpus,
            "num_gpus": found.num_gpus,
            # a unit that kills its worker each time uses up the restarts, and so ends. Tries are used up by a
            # node that is lost too, every few seconds until it is called dead
            "max_restarts": 4,
            "max_task_retries": 20,
        }


def counted_units(
    units: list[Unit],
    reader: UnitReader,
    steps: Sequence[Step],
    writer: PartWriter,
    *,
    part_cpus: float,
    resources: Resources,
) -> Iterator[dict[str, Any]]:
    """Runs the steps over the units on the cluster; what the writer returns of each, as they come out.

    Args:
        units: that are to be done.
        part_cpus: CPUs of a writing task.
    """
    import ray.data

    # Ray 2.60 has no named parameters for the retries and restarts that we bound, so it warns of leaving
    # them out in 2.64
    warnings.filterwarnings("ignore", message=".*ray_remote_args", category=DeprecationWarning)
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = 0  # Ray never drops a block: rows are rejected by us
    context.target_max_block_size = 1  # a block a unit, so that a unit moves on as soon as it is ready
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    groups = group_units(units)
    rows: Any = ray.data.from_items(groups, override_num_blocks=min(len(groups), 4096))
    together, rest = _read_together(groups, steps)
    cpus = max([READ_CPUS, *(step.cpus for step in together)])
    rows = rows.flat_map(_reading(reader, together), **resources.tasks(cpus))
    for step in rest:
        if isinstance(step, Actors):
            rows = _on_actors(rows, step, resources.actors(len(units)))
        else:
            rows = rows.map(_named(_on_row(step.operator), step.operator), **resources.tasks(step.cpus))
    rows = rows.map(_named(_writing(writer), writer), **resources.tasks(part_cpus))
    # without prefetching, by which a unit comes out when the next one is done, and whose thread may still ask
    # Ray for blocks when the job has left it
    blocks = rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return (record for block in blocks for record in block.to_pylist())


def _named(function: Callable[..., Any], operator: object) -> Callable[..., Any]:
    """The function under the name that Ray shows for the operator."""
    function.__name__ = function.__qualname__ = name_of(operator)
    return function


def _read_together(
    groups: list[dict[str, Any]], steps: Sequence[Step]
) -> tuple[Sequence[Tasks], Sequence[Step]]:
    """The steps that the reading task does too, and those that are left.

    An operator costs the driver some milliseconds a unit (docs/SCALE.md). Units that are read one by one are
    decoded where they are read; those of one row group or .gz are not, as one task would decode all of them.
    """
    alone = all(len(group["units"]) == 1 for group in groups)
    together = tuple(itertools.takewhile(lambda step: isinstance(step, Tasks), steps if alone else ()))
    return cast(tuple[Tasks, ...], together), steps[len(together) :]


def _reading(reader: UnitReader, steps: Sequence[Tasks]) -> Callable[..., Any]:
    def read(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
        return (row.to_row() for row in run_here(reader(group), steps))

    return _named(read, reader)


def _on_row(operator: Callable[[UnitRow], UnitRow]) -> Callable[..., Any]:
    def apply(row: dict[str, Any]) -> dict[str, Any]:
        return operator(UnitRow.of(row)).to_row()

    return apply


def _writing(writer: PartWriter) -> Callable[..., Any]:
    def write(row: dict[str, Any]) -> dict[str, Any]:
        return writer(UnitRow.of(row))

    return write


def _on_actors(rows: Any, step: Actors, options: dict[str, Any]) -> Any:
    """A model operator: Ray makes one instance in each worker."""

    class Adapter:
        def __init__(self, **arguments: Any) -> None:
            self._apply = _on_row(step.operator(**arguments))

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return self._apply(row)

    return rows.map(_named(Adapter, step.operator), fn_constructor_kwargs=step.arguments, **options)
