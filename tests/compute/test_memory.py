"""Micro-batches that fit the memory, and that a resumed run keeps what was chosen."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from painter_core.compute.memory import (
    fitting_rows,
    gpt_row_bytes,
    training_row_bytes,
    vqgan_most_rows,
    vqgan_row_bytes,
)
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGANConfig
from painter_core.runs.cluster import KEEP_MEMORY, Cluster
from painter_core.runs.flags import ModelFlags
from painter_core.runs.ray_data import Resources
from painter_core.runs.run import Run
from painter_core.runs.table_run import TableRun
from tests.support.local_run import run_here, table_job, write_input

MIB = 2**20


@pytest.mark.parametrize(
    ("free", "expected"), [(10_000 * MIB, 16), (3200 * MIB, 16), (3199 * MIB, 8), (400 * MIB, 2), (1, 1)]
)
def test_half_of_the_free_memory_is_filled(free: int, expected: int) -> None:
    assert fitting_rows(100 * MIB, free, 16) == expected


CHURN = """
import resource
for _ in range(10):
    b"x" * (64 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries read no MALLOC_ variables")
def test_memory_of_freed_tensors_is_kept() -> None:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    before, after = (
        int(subprocess.run([sys.executable, "-c", CHURN], env=env, check=True, stdout=subprocess.PIPE).stdout)
        for env in (plain, plain | KEEP_MEMORY)
    )
    assert before > 5 * after, f"{before:,} and {after:,} page faults"


def test_rows_of_the_published_sizes() -> None:
    assert vqgan_row_bytes(VQGANConfig(), "fp32") == 192 * MIB
    assert vqgan_row_bytes(VQGANConfig(), "bf16") == 96 * MIB
    assert [vqgan_most_rows(VQGANConfig(), device) for device in ("cuda", "cpu")] == [128, 16]
    assert vqgan_most_rows(VQGANConfig(image_size=8192), "cpu") == 1
    # 36.9 kB a position, as computed by hand
    assert gpt_row_bytes(GPTConfig(), "bf16") == pytest.approx(36_864 * 288, rel=0.11)


def test_training_rows_of_the_published_sizes() -> None:
    """Beside what an H200 needed a sample, uncompiled (benchmarks/RESULTS.md): enough, and not too much."""
    large = GPTConfig(n_layer=24, n_head=16, n_embd=1024)
    for config, measured in ((GPTConfig(), 137 * MIB), (large, 279 * MIB)):
        assert measured <= training_row_bytes(config, "bf16", again=False) <= 1.25 * measured
        assert training_row_bytes(config, "bf16", again=True) < 0.6 * measured


def test_a_resumed_run_keeps_the_micro_batch(tmp_path: Path) -> None:
    table = write_input(tmp_path / "in.tsv")
    for seed, given, expected in ((1, 8, 8), (1, None, 8), (1, 4, 4)):
        flags = {"overwrite": True} if given == 4 else {}
        assert run_here(table, tmp_path / "out", seed=seed, micro_batch_size=given, **flags) == expected
    # where nothing is stored, what fits the memory of a worker
    for free, expected in ((1e9, 16), (8e6, 4)):
        cluster = Cluster(cpus=1, gpus=0, memory_bytes=free)
        job = table_job(table, tmp_path / f"new{free:g}", dry_run=True, memory_per_row=10**6)
        assert TableRun(job, Run({}), cluster).micro_batch_size == expected


@pytest.mark.parametrize(
    ("cpus", "gib", "weights_gib", "workers"),
    [(16, 11, 0.8, 9), (64, 45, 0.8, 39), (4, 100, 0.8, 4), (4, 0.5, 0.8, 1), (4, 0.1, 0, 4)],
)
def test_workers_on_cpus_fit_the_memory(cpus: int, gib: float, weights_gib: float, workers: int) -> None:
    """Each loads the model; a job without one is not held to it."""
    worker_bytes = int(weights_gib and weights_gib * 2**30 + 350 * MIB)
    cluster = Cluster(cpus=cpus, gpus=0, memory_bytes=gib * 2**30)
    found = Resources(cluster=cluster, flags=ModelFlags(), worker_bytes=worker_bytes).model_workers()
    assert (found.least, found.most) == (workers, workers)
    asked = Resources(cluster=cluster, flags=ModelFlags(num_actors="3"), worker_bytes=worker_bytes)
    assert asked.model_workers().most == 3, "what was asked for is done"
