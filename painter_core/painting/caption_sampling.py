"""Writing captions with a GPT that is turned around: codes are read once, then one text id a step.

Shapes: B pictures, N captions of each, L image_len, T text_len, W text_vocab_size. An id is drawn as a code
is (sampling.py), by the caption's own uniforms. Ids that are no text are never drawn, nor an empty caption.
The score of a caption is the sum of log p over its ids and the [PAD] that ends it, of the model's own
distribution over all text ids: at temperature 1, before anything is left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from painter_core.flag_checks import check_range
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.text_targets import NO_TARGET, text_targets
from painter_core.painting.sampling import NOT_SOUND, SamplingConfig, are_sound, draw_codes
from painter_core.painting.scores import log_probabilities

MOST_BEAMS = 16
END = 0  # [PAD]


@dataclass(frozen=True, kw_only=True)
class CaptionSampling:
    """How a caption is written."""

    top_k: int = 1
    """Draw each word piece among the k most likely; 1, the default, is greedy, 0 is all of them, and EasyNLP
    draws among 100."""
    top_p: float = 1.0
    """Draw among the fewest word pieces that hold this share of the probability (after top-k)."""
    temperature: float = 1.0
    """Divides the logits: below 1 sharper, above 1 more varied."""
    beam: int = 1
    """Above 1: look for the likeliest whole caption with so many at hand; nothing is drawn."""

    def __post_init__(self) -> None:
        _ = self.draws
        check_range("--beam", self.beam, 1, MOST_BEAMS)
        if self.beam > 1 and (self.top_k, self.top_p, self.temperature) != (1, 1.0, 1.0):
            raise ValueError(
                f"--beam {self.beam}: draws nothing, so --top-k, --top-p and --temperature mean nothing "
                "beside it; leave them out"
            )

    @property
    def draws(self) -> SamplingConfig:
        """How an id is drawn."""
        return SamplingConfig(top_k=self.top_k, top_p=self.top_p, temperature=self.temperature)

    def check(self, max_generated_num: int) -> None:
        """Raises ValueError unless so many captions of a picture can differ."""
        if max_generated_num > self.beam > 1:
            raise ValueError(
                f"--max-generated-num {max_generated_num}: a beam has the best {self.beam}; give a larger "
                "--beam, or fewer"
            )
        if max_generated_num > 1 == self.beam and self.top_k == 1:
            raise ValueError(
                f"--max-generated-num {max_generated_num}: with --top-k 1 all captions of a picture are the "
                "same; give --top-k 100, or --beam"
            )


def write_captions(
    model: CachedGPT, codes: Tensor, uniforms: Tensor, config: CaptionSampling, no_words: Tensor
) -> Tensor:
    """Captions of pictures.

    Args:
        model: turned around.
        codes: int64 (B, L).
        uniforms: float32 (B, N, T) in [0, 1).
        no_words: bool (W,), ids that are never drawn.

    Returns:
        float64 (B, N, T + 1): ids, [PAD] behind the end of each caption, and its score.

    Raises:
        RuntimeError: the logits are not finite, or too large.
    """
    b, n, t = uniforms.shape
    if config.beam > 1:
        ids, scores = _likeliest(model, codes, t, config.beam, no_words)
        ids, scores = ids.view(b, config.beam, t)[:, :n], scores.view(b, config.beam)[:, :n]
    else:
        ids, scores = _drawn(model, codes, uniforms, config.draws, no_words)
    return torch.cat((ids.reshape(b, n, t).double(), scores.reshape(b, n, 1).double()), 2)


@torch.inference_mode()
def _drawn(
    model: CachedGPT, codes: Tensor, uniforms: Tensor, config: SamplingConfig, no_words: Tensor
) -> tuple[Tensor, Tensor]:
    """Ids int64 (B * N, T) and scores (B * N,)."""
    b, n, t = uniforms.shape
    first, flat = model.config.codebook_size, uniforms.flatten(0, 1)
    logits = model.prefill(codes)
    if n > 1:
        rows = torch.arange(b, device=codes.device).repeat_interleave(n)
        model.repeat(rows)
        logits = logits[rows]
    ids = torch.zeros(b * n, t, dtype=torch.int64, device=codes.device)
    scores = torch.zeros(b * n, dtype=torch.float64, device=codes.device)
    ended = torch.zeros(b * n, dtype=torch.bool, device=codes.device)
    for step in range(t):
        _check(logits)
        found = draw_codes(_confined(logits, no_words, step), flat[:, step], config)
        ids[:, step] = found.masked_fill(ended, END)
        scores += log_probabilities(logits, ids[:, step])[:, 0].double() * ~ended
        ended |= ids[:, step] == END
        if step + 1 == t or bool(ended.all()):
            break
        logits = model.step(ids[:, step] + first, codes.shape[1] + step)
    return ids, scores


@torch.inference_mode()
def _likeliest(
    model: CachedGPT, codes: Tensor, text_len: int, beam: int, no_words: Tensor
) -> tuple[Tensor, Tensor]:
    """Ids int64 (B * beam, T) and scores (B * beam,), the likeliest of each picture first."""
    b, first = len(codes), model.config.codebook_size
    logits = model.prefill(codes)
    origin = torch.arange(b, device=codes.device).repeat_interleave(beam)
    ids = torch.zeros(b * beam, text_len, dtype=torch.int64, device=codes.device)
    scores = torch.full((b, beam), -torch.inf, dtype=torch.float64, device=codes.device)
    scores[:, 0] = 0.0  # before the first id all captions of a picture are the same one
    ended = torch.zeros(b * beam, dtype=torch.bool, device=codes.device)
    for step in range(text_len):
        _check(logits)
        if step == 0:
            model.repeat(origin)
            logits = logits[origin]
        found = logits.double().log_softmax(1)  # (B * beam, W)
        found = _confined(found, no_words, step)
        found[ended] = -torch.inf
        found[ended, END] = 0.0
        size = found.shape[1]
        total = scores.view(-1, 1) + found
        scores, best = total.view(b, beam * size).topk(beam)  # (B, beam)
        rows = (torch.arange(b, device=codes.device)[:, None] * beam + best // size).flatten()
        ids = ids[rows]
        ids[:, step] = (best % size).flatten()
        ended = ended[rows] | (ids[:, step] == END)
        if step + 1 == text_len or bool(ended.all()):
            break
        model.repeat(rows)
        logits = model.step(ids[:, step] + first, codes.shape[1] + step)
    return ids, scores.flatten()


def _check(logits: Tensor) -> None:
    if not are_sound(logits):
        raise RuntimeError(NOT_SOUND)


def _confined(logits: Tensor, no_words: Tensor, step: int) -> Tensor:
    """Logits (B, W) without what must not be drawn at a step."""
    logits = logits.masked_fill(no_words, -torch.inf)
    if step == 0:
        logits[:, END] = -torch.inf
    return logits


@torch.inference_mode()
def caption_scores(model: CachedGPT, codes: Tensor, text: Tensor) -> Tensor:
    """How likely given captions are: float64 (B, 2), the sum of log p as above, and over how many ids.

    Args:
        model: turned around.
        codes: int64 (B, L).
        text: int64 (B, T), text ids; one that fills all T has no end to score.
    """
    targets = text_targets(text, model.config.codebook_size)
    found = []
    for logits, row in zip(model.logits_of_rows(codes, text), targets, strict=True):  # (T, W), (T,)
        is_target = row != NO_TARGET
        log_p = log_probabilities(logits, row.clamp(min=0))[:, 0].double()
        found.append(torch.stack(((log_p * is_target).sum(), is_target.sum().double())))
    return torch.stack(found)
