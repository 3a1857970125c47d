"""A worker and its GPU: never another device than the one that Ray gave, never without a word."""

import os
import re
from pathlib import Path

import pytest
import torch
import torch._inductor.config

from painter_core.compute import devices
from painter_core.compute.devices import prepare_vqgan, resolve_precision, set_inference, worker_device
from painter_core.compute.gpu import GpuLook, compile_problem, driver_version, gpu_problem, look_at_gpu
from painter_core.compute.pieces import filled, is_out_of_memory
from painter_core.models.vqgan import VQGAN
from painter_core.runs.cluster import Cluster
from painter_core.runs.flags import ModelFlags
from painter_core.runs.gpus import find_gpus
from tests.support.jobs import TINY_VQGAN

ONE_GPU = Cluster(cpus=2, gpus=1, memory_bytes=2**32)


def test_a_worker_without_a_gpu_computes_on_the_cpu(one_thread: None, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # Ray no longer hides the machine's from it
    assert worker_device(gpu=False) == torch.device("cpu")


def test_a_gpu_that_torch_cannot_use_is_an_error() -> None:
    assert not torch.cuda.is_available()
    with pytest.raises(
        RuntimeError, match=rf"torch {re.escape(torch.__version__)}.*driver.*--gpus-per-actor 0"
    ):
        worker_device(gpu=True)
    assert look_at_gpu(compiling=True).problem == gpu_problem()
    assert "CUDA_VISIBLE_DEVICES is ''" in gpu_problem()
    assert driver_version() == "" or driver_version()[0].isdigit()


def test_bf16_only_where_the_hardware_has_it() -> None:
    assert resolve_precision("auto", gpu=True, bf16=False) == "fp32"
    assert resolve_precision("bf16", gpu=True, bf16=False) == "bf16"
    assert GpuLook(problem="").bf16


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(ValueError, match="--graphs on: only GPUs"):
        find_gpus(ModelFlags(graphs="on"), Cluster(cpus=2, gpus=0, memory_bytes=2**32))
    with pytest.raises(ValueError, match="--graphs on: only GPUs"):
        find_gpus(ModelFlags(graphs="on", gpus_per_actor=0), ONE_GPU)
    assert not find_gpus(ModelFlags(gpus_per_actor=0), ONE_GPU).used
    assert find_gpus(ModelFlags(), ONE_GPU).used  # without Ray nobody is asked


@pytest.mark.long
def test_a_compiler_that_is_not_there_is_found_out(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert "ompiler" in compile_problem(torch.device("cpu"))
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("the shelf is out of memory"), False),
    ],
)
def test_lack_of_memory_has_many_names(error: RuntimeError, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_filled_batch_repeats_its_last_row() -> None:
    assert filled(torch.tensor([[1], [2]]), 4).tolist() == [[1], [2], [2], [2]]
    assert filled(torch.tensor([[1], [2]]), 2).tolist() == [[1], [2]]


def test_inference_leaves_cudnn_attention_out() -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    set_inference("fp32")
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_layouts_do_not_mix_on_a_gpu_that_does_not_compile() -> None:
    model = prepare_vqgan(VQGAN(TINY_VQGAN).eval(), torch.device("meta"), "fp32")
    seen = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d) and not name.endswith("proj_out"):  # 1 x 1, behind attention
            module.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].is_contiguous()))
    side = TINY_VQGAN.image_size
    pixels = torch.zeros(2, side, side, 3, device="meta").permute(0, 3, 1, 2)
    model.latents(pixels)
    model.decode(torch.zeros(2, TINY_VQGAN.image_len, dtype=torch.int64, device="meta"))
    assert len(seen) > 20
    assert all(seen)


def test_tests_see_no_gpu() -> None:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not devices.PRETENDED
