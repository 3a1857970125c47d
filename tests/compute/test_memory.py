"""Micro-batches that fit the memory, and that a resumed run keeps what was chosen."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from painter_core.compute.memory import fitting_rows, gpt_row_bytes, vqgan_most_rows, vqgan_row_bytes
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGANConfig
from painter_core.runs.cluster import KEEP_MEMORY
from painter_core.runs.run_config import RunConfig
from painter_core.runs.table_run import Job
from painter_core.tables.columns import Columns

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


def test_a_resumed_run_keeps_the_micro_batch(tmp_path: Path) -> None:
    (tmp_path / "_run").mkdir()
    (tmp_path / "_run" / "plan.json").write_text(json.dumps({"settings": {"micro_batch_size": 8}}))
    columns = Columns(schema=("idx", "text"))
    for given, expected in ((None, 8), (4, 4)):
        config = RunConfig(tables="t.tsv", outputs=str(tmp_path), micro_batch_size=given)
        assert Job("test", config, columns).micro_batch_size() == expected
