"""Whether torch can use the GPU of this process, and what it can do; asked where the GPU is."""

import ctypes
import os
from dataclasses import dataclass

import torch

PRETENDED = bool(os.environ.get("PAINTER_PRETEND_GPU"))
"""For tests alone: workers that were given a GPU compute on the CPU."""


@dataclass(frozen=True, kw_only=True)
class GpuLook:
    """What a process that was given a GPU finds."""

    problem: str
    """Why torch cannot use it; empty if it can."""
    name: str = ""
    bf16: bool = True
    """Whether the hardware multiplies in bfloat16."""
    compile_problem: str = ""
    """Why torch.compile does not work; empty if it does, or was not tried."""


def look_at_gpu(*, compiling: bool) -> GpuLook:
    """What this process finds.

    Args:
        compiling: whether to try torch.compile, which takes some seconds.
    """
    if PRETENDED:
        return GpuLook(problem="", name="none: PAINTER_PRETEND_GPU is set")
    if problem := gpu_problem():
        return GpuLook(problem=problem)
    device = torch.device("cuda", torch.cuda.current_device())
    return GpuLook(
        problem="",
        name=torch.cuda.get_device_name(device),
        bf16=torch.cuda.is_bf16_supported(including_emulation=False),
        compile_problem=compile_problem(device) if compiling else "",
    )


def gpu_problem() -> str:
    """Why torch cannot use a GPU in this process, with the versions that must fit; empty if it can."""
    if torch.cuda.is_available():
        return ""
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
    driver = driver_version()
    has = f"the driver takes CUDA up to {driver}" if driver else "no NVIDIA driver was found (libcuda.so.1)"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = "" if visible is None else f", CUDA_VISIBLE_DEVICES is {visible!r}"
    return (
        f"torch cannot use a GPU here: torch {torch.__version__} is {built}, {has}{seen}. Install a newer "
        "driver, or a build of torch for this one (https://pytorch.org), or go without: --gpus-per-actor 0 "
        "(tables), --use-gpu no (training)"
    )


def driver_version() -> str:
    """The newest CUDA that the node's driver takes; empty without a driver."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    found = ctypes.c_int(0)
    if library.cuDriverGetVersion(ctypes.byref(found)) != 0:
        return ""
    return f"{found.value // 1000}.{found.value % 1000 // 10}"


def compile_problem(device: torch.device) -> str:
    """Why torch.compile does not work here (no C compiler, no Python headers, ...); empty if it does."""

    def one_line(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(x) * 2

    try:
        torch.compile(one_line, dynamic=False)(torch.ones(64, device=device))
    except (RuntimeError, OSError) as error:  # torch's own are RuntimeErrors
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
    return ""
