"""How fast a training is, as its metrics say it."""

import torch

from painter_core.models.gpt import GPTConfig
from painter_core.training.gpt import flops_per_sample
from painter_core.training.window import Window
from painter_core.training.worker import Worker

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # dense bf16, from the data sheets


def speed(window: Window, gpt: GPTConfig, worker: Worker) -> dict[str, float]:
    """Samples and tokens a second over all workers; the share of the GPUs' peak where it is known."""
    rate = window.speed()
    found = {"samples_per_s": rate, "tokens_per_s": rate * (gpt.block_size - 1)}
    name = torch.cuda.get_device_name() if worker.device.type == "cuda" else ""
    peak = next((v for k, v in PEAK_FLOPS.items() if k in name), None)
    if peak:
        found["mfu"] = rate * flops_per_sample(gpt) / (peak * worker.world_size)
    return found
