"""The gates that paint with a whole painter: decoding beside sampling, and too little memory."""

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_check.gates import check
from painter_core.model_files.directory import ModelDirectory, write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.text.tokenizer import builtin_tokenizer

BATCH, BATCHES = 64, 4
TOO_MANY = 8192  # pictures a call, whose keys and values are to be more than SHARE of the memory
SHARE = 0.05  # of the card's memory


@contextmanager
def random_model(gpt: GPTConfig, vqgan: VQGAN | Path) -> Iterator[ModelDirectory]:
    """A model directory with random weights, for as long as it is needed."""
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory(prefix="painter-") as folder:
        path = Path(folder) / "model"
        tokenizer = builtin_tokenizer()
        gpt = dataclasses.replace(gpt, text_vocab_size=tokenizer.vocab_size)
        write_model(path, vqgan=vqgan, gpt=GPT(gpt), tokenizer=tokenizer, card="")
        yield open_model(str(path))


def bundled_gpt(n_embd: int, n_layer: int) -> GPTConfig:
    """Geometry of a GPT for the codes of the bundled VQGAN."""
    vqgan = open_model("bundled").vqgan_config
    assert vqgan is not None
    return GPTConfig(
        codebook_size=vqgan.codebook_size,
        image_len=vqgan.image_len,
        n_layer=n_layer,
        n_head=8,
        n_embd=n_embd,
    )


def requests(count: int) -> list[Request]:
    """As many captions."""
    return [Request(idx=str(i), text=f"一只红色的杯子{i}") for i in range(count)]


def make_painter(
    model: ModelDirectory, device: torch.device, precision: str, rows: int, **more: object
) -> Painter:
    """A painter of that model, with the flags' defaults."""
    sampling = SamplingConfig()
    return Painter(
        model, device=device, precision=precision, sampling=sampling, seed=1, micro_batch_size=rows, **more
    )


def overlap(device: torch.device) -> str:
    """Pictures decoded beside the sampling of the next batch, and the same one after the other: equal."""
    with random_model(bundled_gpt(256, 4), open_model("bundled").path) as model:
        graphs = "on" if device.type == "cuda" else "off"
        precision = "bf16" if device.type == "cuda" else "fp32"
        painter = make_painter(model, device, precision, BATCH, graphs=graphs)
        asked = requests(BATCH * BATCHES)
        beside = [pictures for _, pictures in painter.paint(asked)]
        codes = painter.draw(asked).codes
        alone = list(painter.decoder.pictures(codes))
    off = sum(not np.array_equal(a, b) for a, b in zip(beside, alone, strict=True))
    check(off == 0, f"{off} of {BATCHES} batches that were decoded beside the sampling have other pictures")
    return (
        f"{BATCHES} batches of {BATCH} decoded beside the sampling have the pictures of those decoded alone"
    )


def memory(device: torch.device) -> str:
    """Too little memory for a batch: it is halved, and paints what it would; nothing stays behind."""
    if device.type != "cuda":
        return f"{device}: memory is not limited"
    config, asked = bundled_gpt(512, 8), requests(TOO_MANY)
    said = []
    with random_model(config, open_model("bundled").path) as model:
        few = make_painter(model, device, "fp32", 256).draw(asked[:256]).codes
        for graphs in ("off", "on"):
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(SHARE)
            before = torch.cuda.memory_allocated()
            painter = make_painter(model, device, "fp32", TOO_MANY, graphs=graphs)
            found = painter.draw(asked).codes[:256]
            rows = painter._sampling_pieces.rows
            torch.cuda.set_per_process_memory_fraction(1.0)
            same = float((found == few).all(axis=1).mean())
            del painter
            torch.cuda.empty_cache()
            kept = (torch.cuda.memory_allocated() - before) / 2**20
            told = f"graphs {graphs}: {rows} of {TOO_MANY} rows a call, {same:.0%} of the rows alike"
            told += f", {kept:.0f} MiB kept"
            check(rows < TOO_MANY and same >= 0.75 and kept < 64, told)
            said.append(told)
    return "; ".join(said)
