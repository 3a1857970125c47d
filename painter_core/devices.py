"""Device, precision and threads of a model worker."""

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

log = logging.getLogger(__name__)


def worker_device() -> torch.device:
    """The GPU that Ray gave to this worker, or the CPU with one thread.

    One thread a worker: Ray runs as many workers as there are CPUs, and sums in another order on another number of
    threads would change the last bits of a result.
    """
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    torch.set_num_threads(1)
    return torch.device("cpu")


def resolve_precision(precision: Literal["auto", "fp32", "bf16"], *, gpu: bool) -> Literal["fp32", "bf16"]:
    """auto: bfloat16 on a GPU, float32 on a CPU."""
    if precision != "auto":
        return precision
    return "bf16" if gpu else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Matrix products in bfloat16 if asked for, else nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
