"""Jobs on a cluster that says it has a GPU: the operators' other resources, not the GPU's arithmetic.

Ray believes the number that a node is started with. torch finds no GPU, which is an error that the driver
shows before any work; PAINTER_PRETEND_GPU lets the workers compute on the CPU instead.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from tests.support.jobs import ROOT, TINY_GPT_FLAGS, Jobs, table_bytes
from tests.support.nodes import of_own_ray
from tests.support.upscaling import import_spandrel, write_network, write_torchvision

CLUSTER = """
import os, subprocess, sys
from ray.cluster_utils import Cluster

cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False}
)
try:
    job = [sys.executable, *sys.argv[1:]]
    code = subprocess.run(job, env=os.environ | {"RAY_ADDRESS": cluster.address}).returncode
finally:
    cluster.shutdown()
sys.exit(code)
"""
NAMES = "idx,text,imgbase64"
COMPUTED = ("--precision", "fp32", "--micro-batch-size", "16")


ASKING = """
import functools, ray
from painter_core.painting.graphs_probe import probe_graphs
from painter_core.runs.gpus import ask_gpus

ray.init(log_to_driver=False)
print(ask_gpus(functools.partial(divmod, 17, 5)))
try:
    ask_gpus(functools.partial(probe_graphs, compiled=False))
except RuntimeError as error:
    print(error)
"""


def run_with_gpu(jobs: Jobs, name: str, *flags: object, **how: Any) -> str:
    """What a job printed that ran on a cluster of its own, of one node with one GPU."""
    return python_with_gpu(jobs.cache, ROOT / "jobs" / f"{name}.py", *flags, **how)


def python_with_gpu(
    cache: Path, *arguments: object, code: int = 0, pretended: bool = True, paths: tuple[Path, ...] = ()
) -> str:
    """The same of any Python program; `paths` are more of its PYTHONPATH."""
    variables = {"PAINTER_CACHE": str(cache)} | ({"PAINTER_PRETEND_GPU": "1"} if pretended else {})
    variables |= {"CUDA_VISIBLE_DEVICES": "99"}  # Ray counts the names, torch finds no such GPU
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, *map(str, arguments)],
        env=of_own_ray(*paths, **variables), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.mark.slow
def test_precompute_and_generate(
    jobs: Jobs, pairs: Path, tiny_vqgan: Path, codes: Path, model: Path, tmp_path: Path
) -> None:
    made = ("--tables", pairs, "--vqgan", tiny_vqgan, *COMPUTED)
    printed = run_with_gpu(jobs, "precompute_codes", *made, "--outputs", tmp_path / "codes")
    assert "1 model worker, 1 GPUs each" in printed
    assert "the model runs on a GPU, in fp32" in printed
    assert table_bytes(tmp_path / "codes") == table_bytes(codes)

    prompts = tmp_path / "prompts.tsv"
    prompts.write_text("".join(f"p{i}\t红色的{i}号杯子\n" for i in range(40)), encoding="utf-8")
    painted = ("--tables", prompts, "--checkpoint-dir", model, *COMPUTED)
    run_with_gpu(jobs, "generate", *painted, "--outputs", tmp_path / "gpu")
    jobs.run("generate", *painted, "--outputs", tmp_path / "cpu")
    assert table_bytes(tmp_path / "gpu") == table_bytes(tmp_path / "cpu")
    assert sum(pq.read_metadata(p).num_rows for p in (tmp_path / "gpu").glob("*.parquet")) == 40


def test_questions_are_asked_where_the_gpu_is(tmp_path: Path) -> None:
    said = python_with_gpu(tmp_path, "-c", ASKING)
    assert re.search(r"\{'node [0-9.]+': \(3, 2\)\}", said)
    assert "torch cannot use a GPU here" in said  # asked by --graphs on


@pytest.mark.slow
def test_a_gpu_that_torch_cannot_use(
    jobs: Jobs, pairs: Path, tiny_vqgan: Path, model: Path, tmp_path: Path
) -> None:
    """Every job that has models says so before any work."""
    import_spandrel()
    paths = (write_torchvision(tmp_path / "packages"),)
    out, network = tmp_path / "out", write_network(tmp_path / "x2.pth", 2)
    made = ("--tables", pairs, "--vqgan", tiny_vqgan, *COMPUTED, "--outputs", out)
    pictures = ("--tables", pairs, "--outputs", out, "--second-sequence", "imgbase64", "--input-schema")
    flags = {
        "precompute_codes": made,
        "generate": ("--tables", pairs, "--checkpoint-dir", model, "--outputs", out),
        "evaluate": (*pictures, NAMES, "--metrics", "likelihood", "--checkpoint-dir", model),
        "upscale": (*pictures, NAMES, "--upscaler", network),
        "train": ("--tables", pairs, "--codes-dir", tmp_path / "c", "--vqgan", tiny_vqgan,
                  "--checkpoint-dir", out, *TINY_GPT_FLAGS),
        "train_vqgan": ("--tables", pairs, "--outputs", out, "--micro-batch-size", 4),
    }  # fmt: skip
    for job, given in flags.items():
        printed = run_with_gpu(jobs, job, *given, code=2, pretended=False, paths=paths)
        for part in ("has a GPU, but torch cannot use", f"torch {torch.__version__}", "driver", "CUDA"):
            assert part in printed, job
        assert not out.exists(), job
    run_with_gpu(jobs, "precompute_codes", *made, "--gpus-per-actor", "0", pretended=False)
