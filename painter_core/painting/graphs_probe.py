"""Whether CUDA graphs work in this process at all: a small GPT samples by them, before a model is loaded."""

import torch

from painter_core.compute.devices import DTYPES, set_inference, usable_gpu
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.painting.graphs import Capturer, Streams, try_graphs
from painter_core.painting.sampling import SamplingConfig
from painter_core.painting.static_sampling import StaticSampler

SMALL = GPTConfig(
    text_vocab_size=64, codebook_size=256, text_len=16, image_len=64, n_layer=2, n_head=4, n_embd=256
)
ROWS = 4


def probe_graphs(*, compiled: bool) -> str:
    """Why CUDA graphs do not work on this process' GPU; empty if they do."""
    device = usable_gpu()
    precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    set_inference(precision)
    streams = Streams(device)
    model = CachedGPT(GPT(SMALL).eval().to(device), DTYPES[precision], compiled=compiled)
    sampler = StaticSampler(model, SamplingConfig(), ROWS, capture=Capturer(streams.sampling))
    text = torch.full((ROWS, SMALL.text_len), SMALL.codebook_size, device=device)

    def attempt() -> float:
        with streams.for_sampling():
            sampler.sample(text, torch.full((ROWS, SMALL.image_len), 0.5, device=device))
            return sampler.distance(text)

    return try_graphs("auto", attempt, precision).reason
