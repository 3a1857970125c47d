"""Scores of a model that benchmarks/few_pictures.py trained, by the judge, on captions that it never saw."""

import functools

import numpy as np
import torch

from painter_core.compute.devices import DTYPES, prepare_vqgan
from painter_core.images.pixels import to_uint8
from painter_core.model_files.open import open_model
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN
from painter_core.painting.sampling import SamplingConfig, row_uniforms, sample_codes
from painter_core.sample.captions import Attributes
from painter_core.sample.judge import Judge, score
from painter_core.sample.pictures import sample_row
from painter_core.sample.styles import STYLES
from painter_core.text.ids import text_ids
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.worker import Worker

PROMPTS = 192
STYLES_OF = {"combinations": (), "transfer": tuple(STYLES), "base": (), "style": ("线稿",)}
FIRST_VALID = 10_000  # rows of `valid` that no validation sees
SETTINGS = {"k10 g2": (10, 2.0), "k10 g3": (10, 3.0), "k100 g1": (100, 1.0)}


@functools.cache
def vqgan_on(device: str) -> VQGAN:
    return prepare_vqgan(open_model("bundled").load_vqgan(), torch.device(device), "fp32")


@functools.cache
def judge_of(form: str) -> Judge:
    return Judge(styles=("平涂", *STYLES_OF[form]) if form == "style" else STYLES_OF[form])


@torch.inference_mode()
def scored(form: str, seed: int, gpt: GPT, worker: Worker) -> dict[str, dict[str, float]]:
    """Scores of held-out captions with each setting of the sampling."""
    styles, size = STYLES_OF[form], gpt.config.codebook_size
    rows = [("valid", FIRST_VALID + i) if form == "style" else ("held_out", i) for i in range(PROMPTS)]
    prompts = [sample_row(seed, i, split=split, styles=styles) for split, i in rows]  # type: ignore[arg-type]
    ids = text_ids(
        builtin_tokenizer(), [p.text for p in prompts], text_len=gpt.config.text_len, codebook_size=size
    )
    wanted, found = [p.attributes for p in prompts], {}
    uniforms = np.stack([row_uniforms(seed, p.idx, 0, gpt.config.image_len) for p in prompts])
    model = CachedGPT(gpt, DTYPES[worker.precision])
    for name, (top_k, guidance) in SETTINGS.items():
        sampling = SamplingConfig(top_k=top_k, guidance_scale=guidance)
        text, draws = (torch.from_numpy(a).to(worker.device) for a in (ids.ids, uniforms))
        codes = sample_codes(model, text, draws, sampling)
        pixels = np.concatenate(
            [to_uint8(vqgan_on(str(worker.device)).decode(part)) for part in codes.split(64)]
        )
        found[name] = shares(judge_of(form).read(pixels), wanted)
    return found


def shares(read: list[Attributes], wanted: list[Attributes]) -> dict[str, float]:
    """Shares of right values."""
    result = score(read, wanted)
    both = [(r.kind, r.style) == (w.kind, w.style) for r, w in zip(read, wanted, strict=True)]
    found = result.attributes | {"single": result.single, "all": result.all_right}
    found |= {"kind_and_style": float(np.mean(both))}
    return {name: round(value, 4) for name, value in found.items()}
