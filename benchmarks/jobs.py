"""The three jobs end to end under Ray, beside bare loops over the same functions in one process.

A job's rate leaves out its start: it counts from when every model worker has finished a unit to the last
commit. The note has the whole time.
"""

import base64
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks import processes
from benchmarks.data import photo
from benchmarks.limits import Peaks
from benchmarks.measure import Row, Setup, resident_peak
from benchmarks.models import gpt_config, vqgan_config
from painter_core.compute.devices import resolve_precision
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import decode_image, encode_image
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.sample.pictures import sample_row
from painter_core.stages.precompute_codes import EncodePictures
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.gpt import train_step
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import make_optimizers
from painter_core.training.samples import Samples
from painter_core.training.worker import Worker

ROOT = Path(__file__).resolve().parents[1]
PRECISION = "bf16"
BATCH = 16


def precompute(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """Pictures to codes: f16_16384 at 256."""
    count, batch = (32, 16) if setup.short else (320, 16) if setup.device.type == "cpu" else (50_000, 128)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = vqgan_config(setup).image_size
        write_random_model(folder / "model", setup, gpt=False)
        table = write_pairs(folder / "pairs.tsv", count, size)
        began = time.perf_counter()
        made_by = {"vqgan_sha256": open_model(str(folder / "model")).vqgan_sha256()}
        encoder = EncodePictures(
            vqgan=str(folder / "model"), identity=made_by, precision=PRECISION, micro_batch_size=batch
        )
        torch.set_num_threads(setup.threads)  # the worker set one
        started = time.perf_counter() - began

        def bare() -> None:
            found = []
            with table.open(encoding="utf-8") as file:
                lines = [line.rstrip("\n").split("\t") for line in file]
            for start in range(0, count, batch):
                some = lines[start : start + batch]
                pixels = [decode_image(image_of_cell(cell), size) for _, _, cell in some]
                found.append(encoder.encode(np.stack(pixels)))
            codes = pa.array(list(np.concatenate(found)))
            pq.write_table(
                pa.table({"idx": [line[0] for line in lines], "codes": codes}), folder / "bare.parquet"
            )

        flags = ["--tables", table, "--vqgan", folder / "model", "--micro-batch-size", batch]
        yield from _compare("precompute job", "precompute_codes", bare, flags, folder, setup, count, started)


def generate(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """Captions to PNGs: base with f16_16384."""
    count, batch = (32, 16) if setup.short else (256, 16) if setup.device.type == "cpu" else (50_000, 512)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_model(folder / "model", setup, gpt=True)
        table = write_prompts(folder / "prompts.tsv", count)
        captions = [line.split("\t")[1] for line in table.read_text(encoding="utf-8").splitlines()]
        began = time.perf_counter()
        painter = Painter(
            open_model(str(folder / "model")),
            device=setup.device,
            precision=PRECISION,
            sampling=SamplingConfig(),
            seed=42,
            micro_batch_size=batch,
        )
        started = time.perf_counter() - began

        def bare() -> None:
            requests = [Request(idx=f"r{i}", text=text) for i, text in enumerate(captions)]
            cells = [
                base64.b64encode(encode_image(picture)).decode()
                for _, pictures in painter.paint(requests)
                for picture in pictures
            ]
            pq.write_table(pa.table({"text": captions, "gen_imgbase64": cells}), folder / "bare.parquet")

        flags = ["--tables", table, "--checkpoint-dir", folder / "model", "--micro-batch-size", batch]
        yield from _compare("generate job", "generate", bare, flags, folder, setup, count, started)


def train(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """Training of the base GPT on cached codes."""
    count, batch = (32, 4) if setup.short else (96, 8) if setup.device.type == "cpu" else (50_000, 256)
    config = gpt_config(setup, "base")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_model(folder / "vqgan", setup, gpt=False)
        pairs = write_pairs(folder / "pairs.tsv", count, vqgan_config(setup).image_size)
        codes = folder / "codes"
        flags = ["--tables", pairs, "--vqgan", folder / "vqgan", "--outputs", codes]
        processes.run(command_of("precompute_codes", [*flags, "--precision", PRECISION]), ROOT)
        bare = _bare_training(setup, config, count, batch)
        yield Row(
            part="train job", variant="bare loop", rate=bare, unit="sample/s", ratio=1.0,
            peak_bytes=resident_peak(),
        )  # fmt: skip
        geometry = {"--n-layer": config.n_layer, "--n-head": config.n_head, "--n-embd": config.n_embd}
        flags = ["--tables", codes, "--checkpoint-dir", folder / "trained", "--micro-batch-size", batch]
        flags += [*sum(geometry.items(), ()), "--logging-steps", 1, "--save-checkpoint-steps", 10**6]
        done = processes.run(command_of("train", [*flags, "--precision", PRECISION]), ROOT)
        lines = [json.loads(line) for line in (folder / "trained" / "metrics.jsonl").read_text().splitlines()]
        rates = [line["samples_per_s"] for line in lines if "samples_per_s" in line][1:]
        rate = float(np.median(rates))
        note = f"whole job {done.seconds:.0f} s"
        yield Row(
            part="train job", variant="under Ray", rate=rate, unit="sample/s", ratio=rate / bare,
            peak_bytes=done.peak_bytes, note=note,
        )  # fmt: skip


def _bare_training(setup: Setup, config: GPTConfig, count: int, batch: int) -> float:
    """Samples a second of the steps alone: the median, without the first, as of the job."""
    precision = resolve_precision(PRECISION, gpu=setup.device.type == "cuda")
    settings = TrainConfig(tables="-", checkpoint_dir="-", micro_batch_size=batch)
    model = GPT(config).to(setup.device)
    optimizers = make_optimizers(model, settings)
    samples = Samples(
        text_ids=np.full((count, config.text_len), config.codebook_size, np.int32),
        codes=np.zeros((count, config.image_len), np.uint16),
        pad_id=config.codebook_size,
    )
    worker = Worker(rank=0, world_size=1, device=setup.device, precision=precision)
    seconds = []
    for start in range(0, count, batch):
        began = time.perf_counter()
        train_step(model, optimizers, samples, np.arange(start, start + batch), settings, worker)
        seconds.append(time.perf_counter() - began)
    return batch / float(np.median(seconds[1:]))


def _compare(
    part: str,
    job: str,
    bare: Callable[[], None],
    flags: list,
    folder: Path,
    setup: Setup,
    count: int,
    started: float,
) -> Iterator[Row]:
    """The bare loop, the job, and the bare loop again: the machine's other work may come and go."""
    seconds = []
    for turn in range(1 if setup.short or setup.cpu_clock else 2):
        began = setup.now()
        bare()
        seconds.append(setup.now() - began)
        if turn == 0:
            out = folder / "out"
            done = processes.run(command_of(job, [*flags, "--outputs", out, "--precision", PRECISION]), ROOT)
    rate = count * len(seconds) / sum(seconds)
    spread = (max(seconds) - min(seconds)) / (sum(seconds) / len(seconds))
    yield Row(
        part=part, variant="bare loop", rate=rate, unit="row/s", ratio=1.0, spread=spread,
        peak_bytes=resident_peak(), note=f"{count} rows, loading {started:.0f} s apart",
    )  # fmt: skip
    workers = torch.cuda.device_count() if setup.device.type == "cuda" else os.cpu_count() or 1
    begin, end, records = _span(out, workers)
    rows = sum(r["rows_in"] for r in records)
    steady = rows / (done.cpu_seconds(begin, end) if setup.cpu_clock else end - begin)
    busy = sum(r["model_s"] for r in records) / max(workers * (end - begin), 1e-9)
    note = (
        f"whole job {done.seconds:.0f} s, driver {done.driver_peak_bytes / 2**20:.0f} MiB, "
        f"models busy {busy:.0%}, writing {sum(r['write_s'] for r in records):.0f} s of CPUs"
    )
    yield Row(
        part=part, variant="under Ray", rate=steady, unit="row/s", ratio=steady / rate,
        peak_bytes=done.peak_bytes, note=note,
    )  # fmt: skip


def _commits(table: Path) -> list[tuple[float, dict]]:
    """Commit records in the order in which they were written, with the time since the epoch."""
    files = (table / "_run" / "commits").glob("*.json")
    return sorted(((f.stat().st_mtime, json.loads(f.read_text())) for f in files), key=lambda c: c[0])


def _span(table: Path, workers: int) -> tuple[float, float, list[dict]]:
    """From when every worker has finished a unit to the last commit, since the epoch; the units between."""
    commits = _commits(table)
    workers = min(workers, len(commits) - 1)
    return commits[workers - 1][0], commits[-1][0], [record for _, record in commits[workers:]]


def steady_rate(table: Path, workers: int = 1) -> float:
    """Rows a second between these two."""
    begin, end, records = _span(table, workers)
    return sum(r["rows_in"] for r in records) / max(end - begin, 1e-9)


def command_of(job: str, flags: list) -> list[str]:
    """A job's command line."""
    return [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *map(str, flags)]


def write_random_model(directory: Path, setup: Setup, *, gpt: bool) -> None:
    """A model directory with random weights, of the base GPT if one is wanted."""
    vqgan = VQGAN(vqgan_config(setup))
    if not gpt:
        write_model(directory, vqgan=vqgan, card="random weights\n")
        return
    tokenizer = builtin_tokenizer()
    config = gpt_config(setup, "base")
    config = type(config)(**{**vars(config), "text_vocab_size": tokenizer.vocab_size})
    write_model(directory, vqgan=vqgan, gpt=GPT(config), tokenizer=tokenizer, card="random weights\n")


def write_prompts(path: Path, count: int) -> Path:
    """A TSV of the sample's captions, 64 of them over and over."""
    texts = (sample_row(1, i % 64, split="train").text for i in range(count))
    path.write_text("".join(f"r{i}\t{text}\n" for i, text in enumerate(texts)), encoding="utf-8")
    return path


def write_pairs(path: Path, count: int, size: int) -> Path:
    """A TSV of pictures like photographs, 32 of them over and over."""
    cells = [base64.b64encode(encode_image(photo(i, size), "jpeg")).decode() for i in range(min(count, 32))]
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            text = sample_row(1, i % 64, split="train").text
            file.write(f"r{i}\t{text}\t{cells[i % len(cells)]}\n")
    return path
