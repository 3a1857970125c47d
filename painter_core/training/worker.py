"""A training worker: its rank, device and precision."""

import logging
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from painter_core.compute.cpus import usable_cpus
from painter_core.compute.devices import resolve_training_precision

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Who takes part: this rank, how many there are, and how it computes."""

    rank: int
    world_size: int
    device: torch.device
    precision: Literal["fp32", "bf16"]

    def total(self, value: Tensor) -> Tensor:
        """Sum over all ranks."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value


def shared_precision(
    precision: Literal["auto", "fp32", "bf16"], device: torch.device, world_size: int
) -> Literal["fp32", "bf16"]:
    """The precision of all workers: auto is bf16 where the hardware of each is faster in it.

    Workers of different ones would part: Muon rounds otherwise in bf16, and weights that are spread are sent
    in the precision of each. All workers call it together.
    """
    found = resolve_training_precision(precision, device)
    if precision != "auto" or world_size == 1:
        return found
    slow = torch.tensor(float(found == "fp32"), device=device)
    dist.all_reduce(slow)
    if slow and found == "bf16":
        log.info("fp32, as %d of %d workers are not faster in bf16", int(slow), world_size)
    return "fp32" if slow else found


def lone_worker(precision: Literal["auto", "fp32", "bf16"], *, use_gpu: bool) -> Worker:
    """A worker on its own; on a CPU if this node, unlike the workers', has no GPU."""
    device = torch.device("cuda" if use_gpu and torch.cuda.is_available() else "cpu")
    torch.set_num_threads(usable_cpus())
    precision = resolve_training_precision(precision, device)
    return Worker(rank=0, world_size=1, device=device, precision=precision)


def log_step(num_samples: int, seconds: float, worker: Worker) -> None:
    """Says how fast one step of a dry run was."""
    log.info(
        "dry run: one step of one worker, %d samples, on %s in %s: %.2f s, %.1f samples/s",
        num_samples,
        worker.device,
        worker.precision,
        seconds,
        num_samples / seconds,
    )
