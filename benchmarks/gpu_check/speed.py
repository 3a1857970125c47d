"""How fast steps are plain and by graphs, at several batches; the recommended command lines."""

import json
import time
from collections.abc import Callable

import torch

from painter_core.compute.devices import DTYPES, set_inference
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.painting.graphs import Capturer, Streams
from painter_core.painting.sampling import SamplingConfig, sample_codes
from painter_core.painting.static_sampling import StaticSampler

BATCHES = (1, 64, 256, 512)


def speed(device: torch.device) -> str:
    """Pictures a second of the base model's codes, bf16, as JSON: {batch: {way: rate}}."""
    set_inference("bf16")
    config = GPTConfig() if device.type == "cuda" else GPTConfig(n_layer=1, n_embd=96, image_len=16)
    model = GPT(config).eval().to(device)
    found = {}
    for batch in BATCHES if device.type == "cuda" else (1,):
        text = torch.full((batch, config.text_len), config.codebook_size, device=device)
        uniforms = torch.full((batch, config.image_len), 0.5, device=device)
        ways: dict[str, Callable[[], object]] = {}
        gpt = CachedGPT(model, DTYPES["bf16"])
        ways["plain"] = lambda gpt=gpt, t=text, u=uniforms: sample_codes(gpt, t, u, SamplingConfig())
        if device.type == "cuda":
            capture = Capturer(Streams(device).sampling)
            static = StaticSampler(CachedGPT(model, DTYPES["bf16"]), SamplingConfig(), batch, capture=capture)
            ways["graphs"] = lambda s=static, t=text, u=uniforms: s.sample(t, u)
        found[batch] = {name: round(batch / _seconds(work, device), 1) for name, work in ways.items()}
    return json.dumps(found)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    work()
    took = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - began)
    return min(took)


def recommended(table: list[dict[str, object]]) -> str:
    """A command line for painting, of the speeds that were found; empty without them."""
    row = next((row for row in table if row["gate"] == "9 speed"), None)
    if row is None:
        return ""
    rates = json.loads(str(row["found"]))
    best = {batch: max(ways, key=ways.get) for batch, ways in rates.items()}
    batch = max(rates, key=lambda b: rates[b][best[b]])
    graphs = "on" if best[batch] == "graphs" else "off"
    rate = rates[batch][best[batch]]
    return f"generate: --graphs {graphs} --micro-batch-size {batch} ({rate:g} pictures/s of codes)"
