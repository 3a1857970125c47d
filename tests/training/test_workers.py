"""What workers on different machines agree on, and what a training leaves of a GPU's memory."""

from pathlib import Path

import pytest
import torch

from painter_core.compute import devices
from painter_core.models.gpt import GPT
from painter_core.training.micro_batch import awaited_bytes
from painter_core.training.worker import Worker, shared_precision
from tests.support.ranks import run_ranks
from tests.training.test_training import ALONE, TINY

pytestmark = pytest.mark.usefixtures("one_thread")


def on_mixed_nodes(worker: Worker) -> None:
    devices.cpu_has_amx = lambda: worker.rank == 0  # as on such a node
    own = devices.resolve_training_precision("auto", worker.device)
    has_bf16 = worker.rank == 0 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert own == ("bf16" if has_bf16 else "fp32")
    assert shared_precision("auto", worker.device, worker.world_size) == "fp32"
    assert shared_precision("bf16", worker.device, worker.world_size) == "bf16", "as it was asked for"


def test_workers_on_different_hardware_compute_in_one_precision(tmp_path: Path) -> None:
    run_ranks(tmp_path / "ranks", 2, on_mixed_nodes)


def test_what_a_training_will_still_allocate() -> None:
    model = GPT(TINY)
    model.tok_emb.weight.requires_grad_(False)
    trained = 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    two = Worker(rank=0, world_size=2, device=ALONE.device, precision="fp32")
    assert awaited_bytes(model, [optimizer], ALONE, is_sharded=False) == 3 * trained
    assert awaited_bytes(model, [optimizer], two, is_sharded=False) == 4 * trained, "with DDP's buckets"
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer.step()
    assert awaited_bytes(model, [optimizer], ALONE, is_sharded=False) == trained, "as after a resume"
    moments = [v for state in optimizer.state.values() for v in state.values() if v.dim()]
    assert sum(v.nbytes for v in moments) == 2 * trained
