"""What the arithmetic allows: operations and bytes of each part, and the machine's own peaks.

2 operations a multiply-add. The machine's peaks are measured in the same run, by a large matrix product and a
large copy.
"""

from dataclasses import dataclass

import torch

from benchmarks.measure import Setup, Work, finish
from painter_core.compute.devices import set_tf32
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig

BYTES = {"bf16": 2, "tf32": 4, "fp32": 4}


@dataclass(frozen=True)
class Peaks:
    """Operations a second by precision, and bytes a second."""

    flops: dict[str, float]
    bytes_per_s: float

    def rate(self, precision: str, flops: float, moved_bytes: float = 0.0) -> float:
        """Most items a second, if one needs so many operations and moves so many bytes."""
        return 1 / max(flops / self.flops[precision], moved_bytes / self.bytes_per_s)


def find_peaks(setup: Setup) -> Peaks:
    """The machine's peaks."""
    short, gpu = setup.short, setup.device.type == "cuda"
    size = 8192 if gpu else 256 if short else 2048
    flops = {}
    kinds = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
    for precision in precisions(setup.device):
        set_tf32(precision)
        a = torch.randn(size, size, device=setup.device).to(kinds[precision])
        flops[precision] = 2 * size**3 / _fastest(lambda a=a: a @ a, 3 if short else 8, setup)
    data = torch.ones(2**30 if gpu else 2**20 if short else 2**26, device=setup.device)
    target = torch.empty_like(data)
    return Peaks(flops, 2 * data.nbytes / _fastest(lambda: target.copy_(data), 4, setup))


def precisions(device: torch.device) -> tuple[str, ...]:
    """The precisions that the device has."""
    return ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16")


def _fastest(work: Work, times: int, setup: Setup) -> float:
    seconds = []
    for _ in range(times):
        began = setup.now()
        work()
        finish(setup.device)
        seconds.append(setup.now() - began)
    return min(seconds)


def vqgan_flops(config: VQGANConfig, *, decoder: bool) -> float:
    """Operations for one picture through the encoder with the codebook search, or the decoder: convolutions
    and attention's products, counted on the meta device."""
    total = 0.0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, torch.nn.Conv2d):
            per_output = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
            total += 2.0 * output.numel() * per_output
        elif type(module).__name__ == "AttnBlock":
            _, channels, height, width = inputs[0].shape
            total += 4.0 * (height * width) ** 2 * channels

    with torch.device("meta"):
        model = VQGAN(config)
        for module in model.modules():
            module.register_forward_hook(count)
        if decoder:
            model.decode(torch.zeros(1, config.image_len, dtype=torch.int64))
            return total
        model.latents(torch.zeros(1, 3, config.image_size, config.image_size))
    return total + 2.0 * config.image_len * config.codebook_size * config.embed_dim


def block_weights(config: GPTConfig) -> float:
    """Weights of all blocks' matrices."""
    return 12.0 * config.n_layer * config.n_embd**2


def generation_flops(config: GPTConfig) -> float:
    """Operations for one picture's codes with a cache."""
    positions = config.block_size - 1
    head = 2.0 * config.n_embd * config.codebook_size * config.image_len
    return 2 * block_weights(config) * positions + head + attention_flops(config)


def attention_flops(config: GPTConfig) -> float:
    """Operations of a picture's sampling that are products with keys and values."""
    contexts = sum(range(config.text_len + 1, config.block_size)) + config.text_len**2 / 2
    return 4.0 * config.n_layer * config.n_embd * contexts


def generation_bytes(config: GPTConfig, batch: int, precision: str) -> float:
    """A picture's share of what a batch moves: all weights once a step, and each row's keys and values."""
    weights = (block_weights(config) + config.n_embd * config.codebook_size) * config.image_len
    contexts = sum(range(config.text_len + 1, config.block_size))
    cache = 2.0 * config.n_layer * config.n_embd * contexts
    return BYTES[precision] * (weights / batch + cache)
