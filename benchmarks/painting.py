"""Sampling and painting of whole pictures, beside EasyNLP's algorithm and Hugging Face's GPT-2."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch

from benchmarks import easynlp, huggingface, limits
from benchmarks.measure import Row, Setup, Timing, Work, in_turns, rows
from benchmarks.models import COMPILED, gpt_config, make_vqgans, random_ids
from painter_core.compute.devices import DTYPES, set_inference
from painter_core.compute.memory import vqgan_most_rows
from painter_core.images.pixels import to_uint8
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.painting.graphs import Capturer, Streams
from painter_core.painting.sampling import SamplingConfig, sample_codes
from painter_core.painting.static_sampling import StaticSampler

LONG_TEXT, LONG_IMAGE = 256, 1024  # 1,280 positions: a picture of 32 x 32 codes
CONTEXTS = 3  # at which the baseline's steps are timed
TOP_K = 100


class _Ours:
    """Sampling and decoding of one batch in one precision, plain or by compiled static steps."""

    def __init__(self, model: GPT, vqgan: VQGAN, name: str, batch: int) -> None:
        self.precision, self.vqgan = name[:4], vqgan
        self.gpt = CachedGPT(model, DTYPES[self.precision], compiled=COMPILED in name)
        device, config = model.pos_emb.device, model.config
        self.static = None
        if COMPILED in name:
            capture = Capturer(Streams(device).sampling)
            self.static = StaticSampler(self.gpt, SamplingConfig(top_k=TOP_K), batch, capture=capture)
        self.text = random_ids(config, batch, device)
        self.uniforms = torch.rand(batch, config.image_len, device=device)
        self.codes = torch.zeros(batch, config.image_len, dtype=torch.int64, device=device)

    def sample(self) -> None:
        set_inference(self.precision)
        if self.static is not None:
            self.codes = self.static.sample(self.text, self.uniforms)
        else:
            self.codes = _sample(self.gpt, self.precision, self.text, self.uniforms)

    @torch.inference_mode()
    def decode(self) -> None:
        set_inference(self.precision)
        for codes in self.codes.split(vqgan_most_rows(self.vqgan.config, self.codes.device.type)):
            to_uint8(self.vqgan.decode(codes))


def generate(setup: Setup, peaks: limits.Peaks, name: str, batch: int, baseline: bool) -> Iterator[Row]:
    """Whole pictures of a batch: sampling and decoding; then sampling alone beside Hugging Face.

    Args:
        baseline: also EasyNLP's algorithm, composed of timed parts (see Composed).
    """
    config, gpu = gpt_config(setup, name), setup.device.type == "cuda"
    model = GPT(config).eval().to(setup.device)
    plain, vqgans = make_vqgans(setup)
    names = [*limits.precisions(setup.device)]
    if gpu:
        names = ["bf16", f"bf16{COMPILED}", *(("fp32",) if batch >= 512 else ())]

    def ours(variant: str) -> dict[str, Work]:
        found = _Ours(model, vqgans[variant], variant, batch)
        return {f"{variant} sampling": found.sample, f"{variant} decoding": found.decode}

    def theirs() -> dict[str, Work]:
        hf = huggingface.make_gpt2(config, torch.bfloat16, setup.device)
        if hf is None:
            return {}
        ids = random_ids(config, batch, setup.device) % config.codebook_size
        return {
            "bf16 Hugging Face": torch.inference_mode()(
                lambda: huggingface.generate(hf, ids, new_tokens=config.image_len, top_k=TOP_K)
            )
        }

    composed = Composed(model, plain, batch, setup)
    makers = [*(functools.partial(ours, variant) for variant in names), theirs]
    if baseline:
        makers.append(lambda: {"EasyNLP": composed})
    timings = _measured(makers, setup)
    if baseline:
        measured = timings["EasyNLP"]
        timings["EasyNLP"] = Timing(composed.seconds[-len(measured.seconds) :], measured.peak_bytes)
    part = f"generate {name}, batch {batch}"
    yield from _table(part, names, timings, config, plain.config, batch, peaks)


def _measured(makers: list[Callable[[], dict[str, Work]]], setup: Setup) -> dict[str, Timing]:
    """Variants in turns; on a GPU one after the other, since each keeps the keys and values of its batch."""
    if setup.device.type != "cuda":
        variants = {name: work for make in makers for name, work in make().items()}
        return in_turns(variants, setup, warm=setup.short, most=3)
    timings: dict[str, Timing] = {}
    for make in makers:
        timings |= in_turns(make(), setup)
        torch.cuda.empty_cache()
    return timings


def generate_long(setup: Setup, peaks: limits.Peaks) -> Iterator[Row]:
    """Codes of 32 x 32 for captions of 256 tokens, by the base GPT, beside Hugging Face."""
    shorter, batch = (16, 2) if setup.short else (1, 4)
    config = dataclasses.replace(
        gpt_config(setup, "base"), text_len=LONG_TEXT // shorter, image_len=LONG_IMAGE // shorter
    )
    text = random_ids(config, batch, setup.device)
    uniforms = torch.rand(batch, config.image_len, device=setup.device)
    model = GPT(config).eval().to(setup.device)
    variants: dict[str, Work] = {}
    hf = huggingface.make_gpt2(config, torch.bfloat16, setup.device)
    if hf is not None:
        variants["bf16 Hugging Face"] = torch.inference_mode()(
            lambda: huggingface.generate(
                hf, text % config.codebook_size, new_tokens=config.image_len, top_k=TOP_K
            )
        )
    most, notes = {}, {}
    share = limits.attention_flops(config) / limits.generation_flops(config)
    for name in limits.precisions(setup.device):
        gpt = CachedGPT(model, DTYPES[name])
        variants[name] = lambda gpt=gpt, name=name: _sample(gpt, name, text, uniforms)
        moved = limits.generation_bytes(config, batch, name)
        most[name] = peaks.rate(name, limits.generation_flops(config), moved)
        notes[name] = f"attention has {share:.0%} of the operations"
    timings = in_turns(variants, setup, warm=setup.short, most=3)
    part = f"generate base, {config.block_size:,} positions, batch {batch}, codes only"
    yield from rows(part, timings, items=batch, unit="picture", limits=most, notes=notes)


def _sample(gpt: CachedGPT, precision: str, text: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    set_inference(precision)
    return sample_codes(gpt, text, uniforms, SamplingConfig(top_k=TOP_K))


def _table(
    part: str,
    names: list[str],
    timings: dict[str, Timing],
    config: GPTConfig,
    vqgan: VQGANConfig,
    batch: int,
    peaks: limits.Peaks,
) -> Iterator[Row]:
    whole = {"EasyNLP": timings["EasyNLP"]} if "EasyNLP" in timings else {}
    most = {}
    for name in names:
        p, parts = name[:4], [timings[f"{name} sampling"], timings[f"{name} decoding"]]
        seconds = [sum(pair) for pair in zip(*(t.seconds for t in parts), strict=True)]
        whole[name] = Timing(seconds, max(t.peak_bytes or 0 for t in parts) or None)
        gpt = peaks.rate(p, limits.generation_flops(config), limits.generation_bytes(config, batch, p))
        most[f"{name} sampling"] = gpt
        most[name] = 1 / (1 / gpt + 1 / peaks.rate(p, limits.vqgan_flops(vqgan, decoder=True)))
    note = {"EasyNLP": "composed: steps at 3 contexts x 256, pictures decoded once per row"}
    yield from rows(part, whole, items=batch, unit="picture", limits=most, notes=note)
    sampling = {
        n: timings[n] for n in ("bf16 Hugging Face", *(f"{n} sampling" for n in names)) if n in timings
    }
    yield from rows(f"{part}, codes only", sampling, items=batch, unit="picture", limits=most)


class Composed:
    """EasyNLP's generation of a batch, which takes ten minutes on two cores: whole steps at three contexts,
    integrated over all, and the decoding of two pictures, times batch x batch / 2."""

    def __init__(self, model: GPT, vqgan: VQGAN, batch: int, setup: Setup) -> None:
        self.model, self.vqgan, self.batch, self.setup = model, vqgan, batch, setup
        self.text = random_ids(model.config, batch, model.pos_emb.device)
        self.seconds: list[float] = []

    def __call__(self) -> None:
        config = self.model.config
        first, last = config.text_len, config.block_size - 1
        steps = []
        for i in range(CONTEXTS):
            context = first + (last - first) * i // (CONTEXTS - 1)
            codes = torch.zeros(self.batch, context - first, dtype=torch.int64, device=self.text.device)
            idx = torch.cat((self.text, codes), dim=1)
            steps.append(self._time(lambda idx=idx: easynlp.sample_step(self.model, idx, top_k=TOP_K)))
        mean_step = statistics.mean((a + b) / 2 for a, b in pairwise(steps))
        few = min(2, self.batch)
        codes = torch.zeros(few, self.vqgan.config.image_len, dtype=torch.int64, device=self.text.device)
        with torch.no_grad():
            decoding = self._time(lambda: to_uint8(easynlp.decode(self.vqgan, codes))) / few
        self.seconds.append(mean_step * config.image_len + decoding * self.batch * self.batch)

    def _time(self, work: Work) -> float:
        began = self.setup.now()
        work()
        if self.setup.device.type == "cuda":
            torch.cuda.synchronize()
        return self.setup.now() - began
