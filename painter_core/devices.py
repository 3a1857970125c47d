"""Device, precision and threads of a model worker."""

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import torch

log = logging.getLogger(__name__)


def worker_device() -> torch.device:
    """The GPU that Ray gave to this worker, or the CPU with one thread.

    One thread a worker: Ray runs as many workers as there are CPUs, and sums in another order on another
    number of threads would change the last bits of a result.
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


def resolve_training_precision(
    precision: Literal["auto", "fp32", "bf16"], device: torch.device
) -> Literal["fp32", "bf16"]:
    """auto: bfloat16 autocast where the hardware multiplies in it (GPUs since Ampere, CPUs with AMX or
    AVX512-BF16)."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    # mkldnn reports bf16 as supported from AVX512 on, where it is emulated and slower than float32
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0]
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
