"""make gpu-check: says why there is no GPU, and its gates find what is wrong, here a CPU beside a CPU."""

import fcntl
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check import gates, on_ray, painters, speed
from benchmarks.gpu_check.__main__ import run_within
from painter_core.painting.static_sampling import StaticSampler
from tests.support.jobs import ROOT

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def test_without_a_gpu_gate_0_ends_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    (row,) = json.loads((tmp_path / "found.json").read_text())
    assert (row["gate"], row["result"]) == ("0 environment", "fail")
    assert "torch cannot use a GPU here" in row["found"]
    assert "torch cannot use a GPU here" in done.stdout


def test_a_gate_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    held, began = tmp_path / "held", time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run_within(["bash", "-c", f"flock {held} sleep 60 & wait"], 1.0)
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits until what was started is gone
    assert time.monotonic() - began < 30.0


@pytest.mark.slow
@pytest.mark.parametrize("gate", [gates.environment, gates.encode, gates.training])
def test_a_cpu_is_like_a_cpu(gate) -> None:
    assert gate(CPU)


@pytest.mark.slow
def test_graphs_that_keep_something_back_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gates, "GPT_CHECKED", gates.GPTConfig(
            text_vocab_size=64, codebook_size=128, text_len=8, image_len=40, n_layer=1, n_head=2, n_embd=32
        ),
    )  # fmt: skip
    assert "100% of" in gates.sample(CPU)
    assert "100% of the rows alike" in gates.graphs(CPU)
    monkeypatch.setattr(StaticSampler, "distance", lambda self, text: 1.0)
    with pytest.raises(gates.Failed, match="logits off by 1"):
        gates.graphs(CPU)


def test_the_recommended_flags_are_the_fastest() -> None:
    found = {
        "9 speed: VQGAN": {
            "seconds to the first": {"plain": 5.8, "compiled": 15.7},
            "unit": {"plain": 991.1, "compiled": 1769.0},
        },
        "9 speed: training, base": {
            "16": {"plain": 600.0, "GiB, plain": 3.9, "compiled": 650.0},
            "128": {"plain": 1680.0, "compiled": 2236.0, "GiB, compiled": 9999.0},
            "256": {"plain": 1775.0, "compiled": 2240.0},
        },
        "9 speed: painting, base": {
            "1": {"graphs off": 9999.0},
            "256": {"graphs off": 200.0, "graphs on": 300.0, "graphs on, compiled": 350.0},
            "512": {"graphs off": 200.0, "graphs on": 400.0, "graphs on, compiled": 500.0},
        },
    }
    table = [{"gate": gate, "found": json.dumps(rates)} for gate, rates in found.items()]
    assert speed.recommended([{"gate": "0 environment", "found": "sm90"}, *table]).splitlines() == [
        "generate: --graphs on --micro-batch-size 512 --compile on (500 pictures/s)",
        "precompute: --compile on, whose compilation takes about 16 s (1769 pictures/s)",
        "train: --micro-batch-size 128 (2236 samples/s)",
    ]
    assert speed.recommended([{"gate": "0 environment", "found": ""}]) == ""
    failed = [{"gate": "9 speed: VQGAN", "result": "fail", "found": "not done within 300 s"}]
    assert speed.recommended(failed) == ""


@pytest.mark.slow
@pytest.mark.parametrize("gate", [speed.peaks, speed.vqgan, painters.overlap])
def test_more_gates_run_on_a_cpu(gate) -> None:
    assert gate(CPU)


@pytest.mark.slow
@pytest.mark.parametrize("gate", [speed.sampling, speed.painting, speed.training])
def test_speeds_of_tiny_sizes(gate) -> None:
    assert json.loads(gate(CPU, "base"))


@pytest.mark.slow
def test_the_three_jobs_on_ray_one_training_killed() -> None:
    assert "losses of a killed training within 0.000%" in on_ray.on_ray(CPU)
