"""What of the cluster the operators of a table-to-table job get."""

import logging
from dataclasses import dataclass
from typing import Any

from painter_core.runs.cluster import cluster_resources
from painter_core.runs.command_line import parse_range

log = logging.getLogger(__name__)

TASK_CPUS = 0.2  # of what a CPU task asks for, where models need CPUs too


@dataclass(frozen=True, kw_only=True)
class ModelWorkers:
    """How many there are to be, and on what."""

    least: int
    most: int
    num_cpus: float
    """Of each."""
    num_gpus: float
    """Of each."""


@dataclass(frozen=True)
class Resources:
    """The flags, and what they come to on this cluster; Ray is running."""

    num_actors: str | None
    """--num-actors."""
    gpus_per_actor: float | None
    """--gpus-per-actor."""

    @property
    def uses_gpu(self) -> bool:
        """Whether model workers get a GPU; ValueError if there is none for them."""
        gpus, wanted = cluster_resources().get("GPU", 0), self.gpus_per_actor
        if wanted and wanted > gpus:
            raise ValueError(f"--gpus-per-actor {wanted}: the cluster has {gpus:g} GPUs")
        return gpus > 0 if wanted is None else wanted > 0

    def model_workers(self) -> ModelWorkers:
        """As many as the cluster has room for, or as --num-actors says; ValueError if there is no room."""
        available = cluster_resources()
        gpus = (self.gpus_per_actor or 1.0) if self.uses_gpu else 0.0
        room = int(available["GPU"] / gpus) if gpus else int(available["CPU"])
        least, most = parse_range("--num-actors", self.num_actors) or (room, room)
        num_cpus = 1.0 if gpus else 0.75
        if least > room or least * num_cpus > available["CPU"]:
            raise ValueError(f"--num-actors {least}: the cluster has room for {room} model workers")
        return ModelWorkers(least=least, most=most, num_cpus=num_cpus, num_gpus=gpus)

    def tasks(self, num_cpus: float) -> dict[str, Any]:
        """Options of a CPU operator.

        Where models need CPUs too, a task asks for little, so that they overlap, and tasks are bounded in
        number instead: each may start a process, which costs 2 s of a CPU and 200 MB.

        Args:
            num_cpus: of a task; without GPUs, the share of all CPUs that the operator may have.
        """
        if self.uses_gpu:
            return {"num_cpus": num_cpus, "max_retries": 3}
        import ray.data

        most = max(1, round(num_cpus * cluster_resources()["CPU"]))
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
        log.info("%d..%d model workers, %g GPUs each", least, most, found.num_gpus)
        # a second call unpacks the next unit, and packs the last one, beside the model's own
        calls = 2 if found.num_gpus else 1
        return {
            "compute": ray.data.ActorPoolStrategy(
                min_size=least, max_size=most, max_concurrent_calls_per_actor=calls
            ),
            "num_cpus": found.num_cpus,
            "num_gpus": found.num_gpus,
            # bounded, or a unit that kills its worker would run for ever
            "max_restarts": 4,
            "max_task_retries": 2,
        }
