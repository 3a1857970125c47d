"""The benchmarks run, and their baselines compute what ours do; how fast is for `make bench` to say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import easynlp, limits, scale, tokenizers
from benchmarks.measure import Timing, rows
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.painting.sampling import SamplingConfig, sample_codes
from painter_core.training.gpt import flops_per_sample
from tests.support.jobs import ROOT, TINY_VQGAN

GPT_TINY = GPTConfig(
    text_vocab_size=40, codebook_size=64, text_len=4, image_len=9, n_layer=2, n_head=2, n_embd=32
)

FEWEST_ROWS = {"encode": 3, "train-base": 3, "generate-base-16": 5, "generate-large-1": 4, "reading": 2}
FEWEST_ROWS |= {"activation-checkpointing": 2, "generate-long": 2}


def run(*flags: str, **options: object) -> None:
    """The command in its short mode."""
    command = [sys.executable, "-m", "benchmarks", "--short", *flags]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_parts_run(tmp_path: Path) -> None:
    parts = ",".join((*FEWEST_ROWS, "decode", "picture-files", "cells", "captions", "collation"))
    run("--in-process", "--parts", parts, "--json", str(tmp_path / "table.json"))
    found = json.loads((tmp_path / "table.json").read_text())
    assert found["machine"]["short"]
    assert len(found["rows"]) >= sum(FEWEST_ROWS.values())
    assert all(row["rate"] > 0 and row["unit"].endswith("/s") for row in found["rows"])


@torch.inference_mode()
def test_the_baseline_computes_the_same() -> None:
    torch.manual_seed(0)
    vqgan = VQGAN(TINY_VQGAN).eval()
    torch.nn.init.normal_(vqgan.quantize.embedding.weight, std=0.3)
    pixels = torch.rand(2, 3, TINY_VQGAN.image_size, TINY_VQGAN.image_size) * 2 - 1
    codes = vqgan.encode(pixels)
    assert torch.equal(easynlp.encode(vqgan, pixels), codes)
    torch.testing.assert_close(easynlp.decode(vqgan, codes), vqgan.decode(codes), atol=1e-4, rtol=0)
    gpt = GPT(GPT_TINY).eval()
    text = torch.randint(64, 104, (3, 4))
    greedy = sample_codes(CachedGPT(gpt, torch.float32), text, torch.zeros(3, 9), SamplingConfig(top_k=1))
    assert torch.equal(easynlp.generate(gpt, text, top_k=1), greedy)


def test_the_arithmetic_is_that_of_the_published_sizes() -> None:
    base = GPTConfig()
    assert limits.vqgan_flops(VQGANConfig(), decoder=False) == pytest.approx(140.6e9, rel=0.01)
    assert limits.vqgan_flops(VQGANConfig(), decoder=True) == pytest.approx(252.7e9, rel=0.01)
    assert limits.generation_flops(base) == pytest.approx(56.7e9, rel=0.02)
    assert limits.generation_bytes(base, 64, "bf16") * 64 == pytest.approx(146e9, rel=0.02)
    assert flops_per_sample(base) == pytest.approx(170.1e9, rel=0.01)
    long = GPTConfig(text_len=256, image_len=1024)
    assert limits.attention_flops(long) / limits.generation_flops(long) == pytest.approx(0.11, abs=0.005)


def test_the_page_of_tokenizers_says_what_is_counted() -> None:
    page = (ROOT / "docs" / "TOKENIZERS.md").read_text()
    for config in tokenizers.GEOMETRIES.values():
        parameters, codes, encode, decode = tokenizers.cost(config)
        assert f"| {parameters} M | {codes} | {encode}, {decode} |" in page


def test_ratios_compare_rounds() -> None:
    timings = {"a": Timing([4.0, 8.0, 2.0], None), "b": Timing([2.0, 2.0, 2.0], None)}
    first, second = rows("part", timings, items=16, unit="row")
    assert (first.ratio, second.ratio) == (1.0, 2.0)
    assert (second.rate, second.unit, second.spread) == (8.0, "row/s", 0.0)
    assert first.spread == 1.5


def test_the_cost_of_a_unit_leaves_out_the_start() -> None:
    """Wall seconds, CPU seconds, units: workers start for ten seconds, then come 10 units/s at 10 ms each."""
    seen = [(100.0, 0.0, 0), (110.0, 5.0, 5), (111.0, 5.1, 20), (121.0, 6.1, 120), (122.0, 6.2, 200)]
    found = scale.cost(seen, 200)
    assert found["first_unit_s"] == 10
    assert found["units_per_s"] == pytest.approx(10)
    assert found["driver_ms_per_unit"] == pytest.approx(10)
    assert found["driver_cores"] == pytest.approx(0.1)
