"""make gpu-check: says why there is no GPU, and its gates find what is wrong, here a CPU beside a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check import gates, speed
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
    found = json.dumps({64: {"plain": 100.0, "graphs": 300.0}, 512: {"plain": 400.0, "graphs": 350.0}})
    said = speed.recommended([{"gate": "9 speed", "found": found}])
    assert said == "generate: --graphs off --micro-batch-size 512 (400 pictures/s of codes)"
    assert speed.recommended([{"gate": "0 environment", "found": ""}]) == ""
