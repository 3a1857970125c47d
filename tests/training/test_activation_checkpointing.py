"""--activation-checkpointing: the same steps in less memory."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks.measure import CLEAR_REFS, resident_peak
from painter_core.models.gpt import GPT
from painter_core.training.gpt import loss_sum, train_step
from painter_core.training.optimizers import make_optimizers
from tests.support.jobs import ROOT
from tests.training.test_training import ALONE, TINY, config, samples

pytestmark = pytest.mark.usefixtures("one_thread")

# a block's activations, about 16 tensors of (B, T, n_embd), are 4 MiB
WIDE = dataclasses.replace(TINY, text_len=32, image_len=97, n_layer=12, n_embd=64)
BATCH = 8


def make(geometry=TINY, *, again: bool) -> GPT:
    torch.manual_seed(0)
    model = GPT(geometry)
    model.activation_checkpointing = again
    return model


def test_loss_and_gradients_are_the_same_to_the_bit() -> None:
    kept, again = make(again=False), make(again=True)
    assert list(kept.state_dict()) == list(again.state_dict())
    text, codes = samples().batch(np.arange(16), torch.device("cpu"))
    losses = [loss_sum(model, text, codes) for model in (kept, again)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for (name, a), b in zip(kept.named_parameters(), again.parameters(), strict=True):
        assert a.grad is not None
        assert torch.equal(a.grad, b.grad), name


def test_blocks_are_passed_twice_in_training_and_once_without_gradients() -> None:
    model, passes = make(again=True), []
    model.blocks[0].register_forward_pre_hook(lambda *args: passes.append(1))
    text, codes = samples().batch(np.arange(4), torch.device("cpu"))
    with torch.no_grad():
        loss_sum(model, text, codes)
    assert len(passes) == 1
    loss_sum(model, text, codes).backward()
    assert len(passes) == 3


def test_weights_after_some_steps_are_the_same_to_the_bit() -> None:
    data, settings, found = samples(), config("muon"), []
    for again in (False, True):
        model = make(again=again)
        optimizers = make_optimizers(model, settings)
        found.append([train_step(model, optimizers, data, np.arange(16), settings, ALONE) for _ in range(3)])
        found[-1].append({k: v.tolist() for k, v in model.state_dict().items()})
    assert found[0] == found[1]


def peak_bytes(*, again: bool) -> int:
    """How far the process grew during one pass, beyond what it had."""
    model = make(WIDE, again=again)
    text = torch.full((BATCH, WIDE.text_len), WIDE.codebook_size)
    codes = torch.zeros((BATCH, WIDE.image_len), dtype=torch.int64)
    CLEAR_REFS.write_text("5")
    before = resident_peak()
    loss_sum(model, text, codes).backward()
    return resident_peak() - before


PEAKS = """
import torch
from tests.training.test_activation_checkpointing import peak_bytes
torch.set_num_threads(1)
peak_bytes(again=True)  # what torch takes at its first pass
print(peak_bytes(again=True), peak_bytes(again=False))
"""


@pytest.mark.long
def test_the_peak_is_lower() -> None:
    """In a process that gives back at once what it frees, so that its size follows what is in use."""
    given_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PEAKS]
    done = subprocess.run(command, env=os.environ | given_back, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    less, more = map(int, done.stdout.split())
    assert less < more / 2
