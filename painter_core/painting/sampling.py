"""Drawing codes from a GPT: top-k, top-p, temperature, one uniform number a step.

Shapes: B rows, V codebook_size, L image_len. The draw is an inverse CDF with a given uniform, so a row's
codes depend on its own uniforms and logits alone: not on its neighbours in the batch, nor on how many rows
were drawn before.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from painter_core.flag_checks import check_range
from painter_core.models.cached_gpt import CachedGPT
from painter_core.painting.scores import log_probabilities

MIN_TEMPERATURE = 1e-6  # at which the most likely code is drawn, unless another one is as likely to 6 digits
MAX_LOGIT = 1e30  # divided by the lowest temperature it is still a float32
NOT_SOUND = (
    "the GPT's logits are not finite, or above 1e30: its weights are damaged, or overflow in this precision. "
    "Copy the model again, or try --precision fp32"
)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a code is drawn from the logits."""

    top_k: int = 100
    """Draw among the k most likely codes; 1 is greedy, 0 is all of them."""
    top_p: float = 1.0
    """Draw among the fewest codes that hold this share of the probability (after top-k)."""
    temperature: float = 1.0
    """Divides the logits: below 1 sharper, above 1 more varied."""
    guidance_scale: float = 1.0
    """Above 1: away from what the model would paint without a caption (classifier-free guidance; twice the
    work; for models trained with --caption-dropout)."""

    def __post_init__(self) -> None:
        check_range("--top-k", self.top_k, 0, 2**31 - 1)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p: got {self.top_p}, expected above 0 and at most 1")
        if not MIN_TEMPERATURE <= self.temperature <= 100:
            raise ValueError(
                f"--temperature: got {self.temperature}, expected {MIN_TEMPERATURE} to 100; for the most "
                "likely code every time, --top-k 1"
            )
        if not 1 <= self.guidance_scale <= 100:
            raise ValueError(f"--guidance-scale: got {self.guidance_scale}, expected 1 to 100")

    @property
    def rows_per_picture(self) -> int:
        """Rows of the model's batch: with guidance one with the caption, one without."""
        return 1 if self.guidance_scale == 1 else 2


def row_uniforms(seed: int, idx: str, sample: int, length: int) -> np.ndarray:
    """float32 (length,) in [0, 1): a function of (seed, idx, sample) only, by numpy's Philox."""
    digest = hashlib.sha256(f"{seed}\0{sample}\0{idx}".encode("utf-8", "surrogatepass")).digest()
    key = int.from_bytes(digest[:16], "little")
    return np.random.Generator(np.random.Philox(key=key)).random(length, np.float32)


def draw_codes(logits: Tensor, uniforms: Tensor, config: SamplingConfig) -> Tensor:
    """One code a row.

    Args:
        logits: (B, V), any float type.
        uniforms: float32 (B,) in [0, 1).

    Returns:
        int64 (B,) in [0, V). Among equal logits the backend's top-k order decides.
    """
    size = logits.shape[-1]
    k = min(config.top_k or size, size)
    values, codes = logits.topk(k, dim=-1)  # (B, k), most likely first; in bf16 a GPU needs half the time
    cumulative = torch.softmax(values.float() / config.temperature, dim=-1).cumsum(dim=-1)
    if config.top_p < 1:
        # keep every code before which less than top_p is held: at least the first
        kept = (cumulative < config.top_p).sum(dim=-1, keepdim=True).clamp(max=k - 1)
        total = cumulative.gather(1, kept)
    else:
        kept = torch.full_like(codes[:, :1], k - 1)
        total = cumulative[:, -1:]
    rank = torch.searchsorted(cumulative, uniforms[:, None] * total, right=True)
    return codes.gather(1, torch.minimum(rank, kept))[:, 0]


def rows_of_text(
    text_ids: Tensor, config: SamplingConfig, codebook_size: int, start: Tensor | None = None
) -> Tensor:
    """What the model is given (B, text_len), or with guidance (2 B, text_len): then the empty captions; and
    behind each the codes `start` (B, K), if there are some."""
    rows = text_ids
    if config.guidance_scale != 1:
        rows = torch.cat((text_ids, torch.full_like(text_ids, codebook_size)))
    return rows if start is None else torch.cat((rows, start.repeat(config.rows_per_picture, 1)), 1)


def guided(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Logits (B, V) to draw from, out of (B, V), or of (2 B, V): with captions, then without."""
    if config.guidance_scale == 1:
        return logits
    told, empty = logits.float().chunk(2)
    return empty + config.guidance_scale * (told - empty)


def are_sound(logits: Tensor) -> Tensor:
    """Whether a code can be drawn from these logits: bool (), on their device."""
    return logits.abs().amax() < MAX_LOGIT  # false for NaN too


@torch.inference_mode()
def sample_codes(
    model: CachedGPT,
    text_ids: Tensor,
    uniforms: Tensor,
    config: SamplingConfig,
    *,
    start: Tensor | None = None,
    log_p: Tensor | None = None,
) -> Tensor:
    """Codes of whole pictures: prefill of the text once, then one position a step.

    Args:
        model: made for B * config.rows_per_picture rows.
        text_ids: int64 (B, text_len).
        uniforms: float32 (B, L).
        start: int64 (B, K), codes that the pictures begin with.
        log_p: float32 (B, config.rows_per_picture, L), filled with log p of the codes that are drawn
            (scores.py).

    Returns:
        int64 (B, L).

    Raises:
        RuntimeError: the logits are not finite, or too large (NOT_SOUND).
    """
    length, text_len = model.config.image_len, text_ids.shape[1]
    codes = torch.empty(len(uniforms), length, dtype=torch.int64, device=text_ids.device)
    first = 0 if start is None else start.shape[1]
    logits = model.prefill(rows_of_text(text_ids, config, model.config.codebook_size, start))
    if start is not None:
        codes[:, :first] = start
    sound = torch.ones((), dtype=torch.bool, device=text_ids.device)
    for step in range(first, length):
        mixed = guided(logits, config)
        sound &= are_sound(mixed)
        codes[:, step] = draw_codes(mixed, uniforms[:, step], config)
        if log_p is not None:
            log_p[:, :, step] = log_probabilities(logits, codes[:, step])
        if step + 1 < length:
            logits = model.step(codes[:, step].repeat(config.rows_per_picture), text_len + step)
    if not sound:
        raise RuntimeError(NOT_SOUND)
    return codes
