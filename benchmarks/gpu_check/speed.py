"""How fast this GPU is at each part, and the command lines that follow from it.

Each gate prints a JSON object {what: {way: rate}}: pictures or samples a second, of the base and large model
and of f16_16384 at 256 x 256, in bf16. On a CPU the sizes are tiny: it shows that everything runs.
"""

import functools
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import limits
from benchmarks.gpu_check.painters import make_painter, random_model, requests
from benchmarks.measure import Setup
from benchmarks.models import gpt_config, vqgan_config
from painter_core.compute.devices import DTYPES, set_inference
from painter_core.images.pixels import to_pixels
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN
from painter_core.painting.graphs import Capturer, Streams
from painter_core.painting.sampling import SamplingConfig, sample_codes
from painter_core.painting.static_sampling import StaticSampler
from painter_core.stages.precompute_codes import EncodePictures
from painter_core.training.gpt import train_step
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import make_optimizers
from painter_core.training.regions import compile_regions
from painter_core.training.samples import Samples
from painter_core.training.worker import Worker

Found = dict[str, dict[str, float]]
SECONDS = 1.0  # that a rate is measured for, at least
TRAINED = {"base": (16, 64, 128, 256), "large": (128,)}
SAMPLED = {"base": (1, 64, 256, 512, 1024), "large": (512,)}
PAINTED = (256, 512)  # pictures a batch of those that are painted 2,048 at a time
PRECISION = "bf16"


def _setup(device: torch.device) -> Setup:
    return Setup(device=device, short=device.type != "cuda", repeats=3, threads=1)


def peaks(device: torch.device) -> str:
    """Operations and bytes a second that this card reaches."""
    found = limits.find_peaks(_setup(device))
    said = {name: round(flops / 1e12, 1) for name, flops in found.flops.items()}
    return json.dumps({"TFLOP/s": said, "TB/s": {"copy": round(found.bytes_per_s / 1e12, 3)}})


@torch.inference_mode()
def vqgan(device: torch.device) -> str:
    """Encoder and decoder, plain and compiled; a unit of 2,048 rows as precompute_codes.py encodes it."""
    setup, found = _setup(device), Found()
    config, gpu = vqgan_config(setup), device.type == "cuda"
    size, rows = config.image_size, 128 if gpu else 2
    images = np.random.default_rng(0).integers(0, 256, (16 * rows, size, size, 3), np.uint8)
    codes = torch.randint(0, config.codebook_size, (rows, config.image_len), device=device)
    with random_model(gpt_config(setup, "base"), VQGAN(config).eval()) as model:
        for way, compiled in (("plain", False), ("compiled", True)) if gpu else (("plain", False),):
            began = time.perf_counter()
            worker = EncodePictures(
                vqgan=str(model.path),
                identity={"vqgan_sha256": model.vqgan_sha256()},
                precision=PRECISION,
                micro_batch_size=rows,
                compiled=compiled,
                gpu=gpu,
            )
            worker.encode(images[:rows])
            first = time.perf_counter() - began
            sent = to_pixels(torch.from_numpy(images[:rows]).to(device))
            rates = {
                "seconds to the first": first,
                "encode": _rate(functools.partial(worker._model.encode, sent), rows, device),
                "decode": _rate(lambda w=worker: w._model.decode(codes), rows, device),
                "unit": _rate(lambda w=worker: w.encode(images), len(images), device),
            }
            for what, rate in rates.items():
                found.setdefault(what, {})[way] = round(rate, 1)
    return json.dumps(found)


def sampling(device: torch.device, size: str) -> str:
    """Codes of pictures: plain steps, by graphs, and by graphs of compiled regions."""
    setup, gpu = _setup(device), device.type == "cuda"
    set_inference(PRECISION)
    config = gpt_config(setup, size)
    model, found = GPT(config).eval().to(device), Found()
    for batch in SAMPLED[size] if gpu else (1,):
        text = torch.full((batch, config.text_len), config.codebook_size, device=device)
        uniforms = torch.rand((batch, config.image_len), device=device)
        rates = found.setdefault(str(batch), {})
        given = (text, uniforms)
        # one after the other: each has keys and values of its own
        gpt = CachedGPT(model, DTYPES[PRECISION])
        plain = functools.partial(sample_codes, gpt, *given, SamplingConfig())
        rates["plain"] = _rate(plain, batch, device)
        del gpt, plain
        for name, compiled in (("graphs", False), ("graphs, compiled", True)) if gpu else ():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            capture = Capturer(Streams(device).sampling)
            gpt = CachedGPT(model, DTYPES[PRECISION], compiled=compiled)
            static = StaticSampler(gpt, SamplingConfig(), batch, capture=capture)
            rates[name] = _rate(functools.partial(static.sample, *given), batch, device)
            rates[f"GiB, {name}"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            del gpt, static
    return json.dumps(found)


def painting(device: torch.device, size: str) -> str:
    """Whole pictures, as a worker of generate.py paints a unit of 2,048 rows, and one alone."""
    setup, found = _setup(device), Found()
    gpu = device.type == "cuda"
    unit = 2048 if gpu else 2
    config = gpt_config(setup, size)
    torch.manual_seed(0)
    with random_model(config, VQGAN(vqgan_config(setup)).eval()) as model:
        for graphs, compiled in (("off", False), ("on", False), ("on", True)) if gpu else (("off", False),):
            way = f"graphs {graphs}" + (", compiled" if compiled else "")
            painter = make_painter(model, device, PRECISION, 1, graphs=graphs, compiled=compiled)
            found.setdefault("1", {})[way] = _rate(lambda p=painter: list(p.paint(requests(1))), 1, device)
            for batch in PAINTED if gpu else (2,):
                of_batch = painter.variant(micro_batch_size=batch)
                work = lambda p=of_batch: list(p.paint(requests(unit)))  # noqa: E731
                list(of_batch.paint(requests(batch)))
                found.setdefault(str(batch), {})[way] = _rate(work, unit, device, warm=False)
            del painter, of_batch
    return json.dumps(found)


def training(device: torch.device, size: str) -> str:
    """Training steps at several micro-batches, plain and compiled; GiB is the largest memory in use."""
    setup, found = _setup(device), Found()
    gpu = device.type == "cuda"
    config = gpt_config(setup, size)
    precision: Any = PRECISION if gpu else "fp32"
    worker = Worker(rank=0, world_size=1, device=device, precision=precision)
    for rows in TRAINED[size] if gpu else (2,):
        settings = TrainConfig(tables="-", checkpoint_dir="-", learning_rate=1e-5, micro_batch_size=rows)
        ids = np.random.default_rng(0)
        samples = Samples(
            text_ids=ids.integers(config.codebook_size, config.vocab_size, (rows, config.text_len), np.int32),
            codes=ids.integers(0, config.codebook_size, (rows, config.image_len), np.uint16),
            pad_id=config.codebook_size,
        )
        rates = found.setdefault(str(rows), {})
        for name in ("plain", "compiled") if gpu else ("plain",):
            model = GPT(config).to(device)
            if name == "compiled":
                compile_regions(model)
            optimizers = make_optimizers(model, settings)
            if gpu:
                torch.cuda.reset_peak_memory_stats()

            step = functools.partial(
                train_step, model, optimizers, samples, np.arange(rows), settings, worker
            )
            rates[name] = _rate(step, rows, device)
            if gpu:
                rates[f"GiB, {name}"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            del model, optimizers, step
    return json.dumps(found)


def _rate(work: Callable[[], object], items: int, device: torch.device, *, warm: bool = True) -> float:
    """Items a second, over as many runs as fill SECONDS, after one that compiles and warms up."""
    gpu = device.type == "cuda"
    if warm:
        work()
    if gpu:
        torch.cuda.synchronize(device)
    began, runs = time.perf_counter(), 0
    while runs == 0 or (gpu and time.perf_counter() - began < SECONDS):
        for _ in range(1 if runs == 0 else max(1, runs)):
            work()
            runs += 1
        if gpu:
            torch.cuda.synchronize(device)
    return float(f"{items * runs / (time.perf_counter() - began):.4g}")


def recommended(table: list[dict[str, object]]) -> str:
    """A command line a job, of the speeds that were found; empty without them."""
    measured = [row for row in table if "speed" in str(row["gate"]) and row.get("result") != "fail"]
    rates = {row["gate"]: json.loads(str(row["found"])) for row in measured}
    said = []
    if found := rates.get("9 speed: painting, base"):
        batch, way = _fastest({n: w for n, w in found.items() if n != "1"})
        compiled = " --compile on" if "compiled" in way else ""
        graphs = "on" if "graphs on" in way else "off"
        flags = f"--graphs {graphs} --micro-batch-size {batch}{compiled}"
        said.append(f"generate: {flags} ({found[batch][way]:g} pictures/s)")
    if found := rates.get("9 speed: VQGAN"):
        _, way = _fastest({"unit": found["unit"]})
        took = found["seconds to the first"].get("compiled", 0.0)
        more = f" --compile on, whose compilation takes about {took:.0f} s" if way == "compiled" else ""
        said.append(f"precompute:{more or ' no flag'} ({found['unit'][way]:g} pictures/s)")
    if found := rates.get("9 speed: training, base"):
        batch, way = _fastest(found)
        compiled = "" if way == "compiled" else " --compile off"
        said.append(f"train: --micro-batch-size {batch}{compiled} ({found[batch][way]:g} samples/s)")
    return "\n".join(said)


def _fastest(rates: Found) -> tuple[str, str]:
    """What is fastest, and in which way; of what is within 3 % the first."""
    ways = [(n, w, r) for n, found in rates.items() for w, r in found.items() if "GiB" not in w]
    most = max(rate for _, _, rate in ways)
    return next((n, w) for n, w, rate in ways if rate >= 0.97 * most)
