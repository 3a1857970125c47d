"""Device, precision and threads of a model worker."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from painter_core.compute.cpus import cpu_has_amx
from painter_core.compute.gpu import PRETENDED, gpu_problem
from painter_core.models.vqgan import VQGAN

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "tf32", "bf16"]
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def worker_device(*, gpu: bool) -> torch.device:
    """The GPU that Ray gave to this worker, or the CPU with one thread.

    One thread a worker: Ray runs as many workers as there are CPUs, and sums in another order on another
    number of threads would change the last bits of a result. A worker without a GPU may see one of the
    machine's all the same.

    Raises:
        RuntimeError: the worker was given a GPU, and torch cannot use it.
    """
    if gpu and not PRETENDED:
        return usable_gpu()
    torch.set_num_threads(1)
    return torch.device("cpu")


def usable_gpu() -> torch.device:
    """This process' GPU, made torch's current one; RuntimeError if torch cannot use it."""
    if why := gpu_problem():
        raise RuntimeError(why)
    device = torch.device("cuda", torch.cuda.current_device())
    torch.cuda.set_device(device)
    return device


def resolve_precision(
    precision: Precision, *, gpu: bool, bf16: bool = True
) -> Literal["fp32", "tf32", "bf16"]:
    """auto: bfloat16 on a GPU whose hardware has it (`bf16`; from Ampere on), else float32."""
    if precision == "tf32" and not gpu:
        raise ValueError("--precision tf32: only GPUs compute in it; take fp32 or bf16")
    if precision != "auto":
        return precision
    return "bf16" if gpu and bf16 else "fp32"


def painting_precision(
    precision: Precision, *, gpu: bool, bf16: bool = True, amx: Callable[[], bool] = cpu_has_amx
) -> Literal["fp32", "tf32", "bf16"]:
    """auto: bfloat16 on a GPU that has it, and on CPUs with AMX, since a drawn picture is one of many; else
    float32.

    AVX512-BF16 alone is not enough: with 64 rows a step of the GPT is as fast as in float32, and the VQGAN's
    decoder takes 1.5 times as long (benchmarks/RESULTS.md).

    Args:
        bf16: whether the GPUs have it.
        amx: asked, of auto without a GPU, whether all CPUs that paint have AMX; by default this machine's.
    """
    if precision == "auto" and not gpu and amx():
        return "bf16"
    return resolve_precision(precision, gpu=gpu, bf16=bf16)


def model_settings(
    precision: Precision, compile: Literal["auto", "on", "off"], *, gpu: bool, bf16: bool = True
) -> dict[str, Any]:
    """`precision` and `compile` as they are put down in a plan and its manifest, and logged.

    compile auto is off on a CPU, where it gains next to nothing (benchmarks/RESULTS.md); on a GPU it stays
    `auto` until it is known how much there is to do.
    """
    if compile == "auto" and not gpu:
        compile = "off"
    resolved = resolve_precision(precision, gpu=gpu, bf16=bf16)
    whole = ", compiled" if gpu else ", the VQGAN compiled"
    compiled = {"on": whole, "auto": ", compiled if there is much to do", "off": ""}[compile]
    log.info("the model runs on %s, in %s%s", "a GPU" if gpu else "CPUs", resolved, compiled)
    return {"precision": resolved, "compile": compile if compile == "auto" else compile == "on"}


def compiled_parts(settings: Mapping[str, Any], *, gpu: bool, vqgan: bool) -> dict[str, str]:
    """What is compiled of a job's models, for its manifest; nothing if `settings` say it all.

    On a CPU that is the VQGAN: a compiled step cannot have packed weights (models/cached_gpt.py), without
    which it takes more time (benchmarks/RESULTS.md).

    Args:
        settings: of model_settings.
        vqgan: whether the job encodes or decodes pictures.

    Raises:
        ValueError: --compile on, and there is nothing to compile.
    """
    if gpu or not settings["compile"]:
        return {}
    if not vqgan:
        raise ValueError(
            "--compile on: on CPUs it compiles the VQGAN alone, which has nothing to do in this run; leave "
            "it out"
        )
    return {"compiled": "vqgan"}


def set_tf32(precision: str) -> None:
    """On a GPU, lets float32 products round their factors to 10 bits (tf32), or forbids it (anything else).

    Torch's own default allows it for convolutions and forbids it for matrix products.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def set_inference(precision: str) -> None:
    """set_tf32, and no attention by cuDNN, which makes a plan for every length of the keys: a step's grow."""
    set_tf32(precision)
    torch.backends.cuda.enable_cudnn_sdp(False)


def prepare_vqgan(model: VQGAN, device: torch.device, precision: str, *, compiled: bool = False) -> VQGAN:
    """A VQGAN for inference: on the device, its convolutions in this precision; the codebook stays float32.

    On a CPU the channels come last in memory, for which its convolutions and norms are written. On a GPU only
    if compiled: else each norm would copy there and back.
    """
    set_inference(precision)
    model = model.requires_grad_(False).to(device)
    if not compiled and device.type != "cpu":
        model.memory_format = torch.contiguous_format
    else:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack it
    for part in (model.encoder, model.quant_conv, model.post_quant_conv, model.decoder):
        part.to(DTYPES[precision])
    if compiled:
        model.encoder.compile(dynamic=False)
        model.decoder.compile(dynamic=False)
    return model


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Context in which matrix products are computed in bfloat16, if that is asked for."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def resolve_training_precision(
    precision: Literal["auto", "fp32", "bf16"], device: torch.device
) -> Literal["fp32", "bf16"]:
    """auto: bfloat16 autocast where the hardware is faster in it (GPUs since Ampere, CPUs with AMX)."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and cpu_has_amx() else "fp32"
