"""What a training step needs with the activations of its blocks kept, and computed again."""

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.limits import Peaks
from benchmarks.measure import Row, Setup, Work, in_turns, rows
from benchmarks.models import gpt_config
from painter_core.models.gpt import GPT
from painter_core.training.gpt import train_step
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import make_optimizers
from painter_core.training.samples import Samples
from painter_core.training.worker import Worker


def activation_checkpointing(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """A step of the base model with --activation-checkpointing, beside one without."""
    gpu = setup.device.type == "cuda"
    config, batch = gpt_config(setup, "base"), (64 if gpu else 4 if setup.short else 16)
    model = GPT(config).to(setup.device)
    settings = TrainConfig(tables="-", checkpoint_dir="-", learning_rate=1e-5, micro_batch_size=batch)
    optimizers, all_rows = make_optimizers(model, settings), np.arange(batch)
    ids = np.random.default_rng(0)
    samples = Samples(
        text_ids=ids.integers(config.codebook_size, config.vocab_size, (batch, config.text_len), np.int32),
        codes=ids.integers(0, config.codebook_size, (batch, config.image_len), np.uint16),
        pad_id=config.codebook_size,
    )
    worker = Worker(rank=0, world_size=1, device=torch.device(setup.device), precision="bf16")

    def step(again: bool) -> None:
        model.activation_checkpointing = again
        train_step(model, optimizers, samples, all_rows, settings, worker)

    # the smaller one first: what the allocator keeps of the larger one would count for both
    step(True)
    variants: dict[str, Work] = {"computed again": lambda: step(True), "kept": lambda: step(False)}
    timings = in_turns(variants, setup, warm=False, most=None if gpu else 3)
    part = f"activations of a train step, base, batch {batch}, bf16"
    yield from rows(part, timings, items=batch, unit="sample", baseline="kept")
