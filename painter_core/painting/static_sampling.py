"""Sampling by steps whose shapes and addresses never change, so that a GPU can play each as one CUDA graph.

It draws what sampling.sample_codes draws. There a GPU waits for the host, which launches some two hundred
small kernels a step; here a step is one launch. The cache is read in buckets: up to the next multiple of
BUCKET positions instead of all of them, with one graph a bucket.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from painter_core.models.cached_gpt import CachedGPT
from painter_core.painting.sampling import (
    NOT_SOUND,
    SamplingConfig,
    are_sound,
    draw_codes,
    guided,
    rows_of_text,
)
from painter_core.painting.scores import log_probabilities

BUCKET = 32  # positions
Capture = Callable[[Callable[[], object], Callable[[], object]], Callable[[], None]]


class StaticSampler:
    """Codes of whole pictures, always of the same number of pictures B.

    Args:
        model: its cache is overwritten; nobody else may use it.
        config: how codes are drawn.
        pictures: B.
        scored: whether log p of the codes is kept.
        capture: makes of a step (and of what is to be done before each run of it) its graph's replay
            (graphs.py); without it the steps run as they are.
    """

    def __init__(
        self,
        model: CachedGPT,
        config: SamplingConfig,
        pictures: int,
        *,
        scored: bool = False,
        capture: Capture | None = None,
    ) -> None:
        self._model, self._config, self._capture = model, config, capture
        shape = (pictures, model.config.image_len)
        self._codes = torch.zeros(shape, dtype=torch.int64, device=model.device)
        self._uniforms = torch.zeros(shape, device=model.device)
        scores = (pictures, config.rows_per_picture if scored else 0, model.config.image_len)
        self._log_p = torch.zeros(scores, device=model.device)
        shape = (pictures * config.rows_per_picture, model.config.codebook_size)
        self._logits = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self._position = torch.zeros(1, dtype=torch.int64, device=model.device)
        self._sound = torch.ones((), dtype=torch.bool, device=model.device)
        self._replays: dict[int, Callable[[], None]] = {}
        self._moves = -1  # of the model when all were captured

    @property
    def holds(self) -> bool:
        """Whether graphs, if there are any, are of the model's cache: another work may have replaced it."""
        return not self._replays or self._moves == self._model.moves

    @torch.inference_mode()
    def sample(
        self,
        text_ids: Tensor,
        uniforms: Tensor,
        *,
        start: Tensor | None = None,
        log_p: Tensor | None = None,
    ) -> Tensor:
        """As sampling.sample_codes: text_ids (B, text_len) and uniforms (B, L) to codes int64 (B, L); for
        log_p the sampler must have been made to keep it."""
        text_len, length = text_ids.shape[1], self._model.config.image_len
        self._uniforms.copy_(uniforms)
        rows = rows_of_text(text_ids, self._config, self._model.config.codebook_size, start)
        self._logits.copy_(self._model.prefill(rows))
        if self._capture is not None and not self._replays:
            self._capture_all(self._capture)
            self._logits.copy_(self._model.prefill(rows))
        assert self.holds, "these graphs would read and write where the cache was before"
        self._sound.fill_(True)
        first = rows.shape[1]
        if start is not None:
            self._codes[:, : start.shape[1]] = start
        self._position.fill_(first)
        for position in range(first, text_len + length - 1):
            self._play(self._end(position))
        self._draw()
        if not self._sound:
            raise RuntimeError(NOT_SOUND)
        if log_p is not None:
            log_p[:, :, first - text_len :] = self._log_p[:, :, first - text_len :]
        return self._codes.clone()

    def _end(self, position: int) -> int:
        """Positions of the cache that the step of a code at `position` reads."""
        return min((position // BUCKET + 1) * BUCKET, self._model.num_positions)

    def _draw(self) -> Tensor:
        """Draws the code at the position from the logits."""
        column = self._position - self._model.config.text_len  # (1,)
        logits, uniforms = guided(self._logits, self._config), self._uniforms.index_select(1, column)[:, 0]
        self._sound.logical_and_(are_sound(logits))
        drawn = draw_codes(logits, uniforms, self._config)
        self._codes.index_copy_(1, column, drawn[:, None])
        if self._log_p.shape[1]:
            self._log_p.index_copy_(2, column, log_probabilities(self._logits, drawn)[:, :, None])
        return drawn

    def _step(self, end: int) -> None:
        """Draws a code, and computes the logits of the next."""
        rows = self._draw().repeat(self._config.rows_per_picture)
        self._logits.copy_(self._model.static_step(rows, self._position, end))
        self._position.add_(1)

    def _play(self, end: int) -> None:
        if end in self._replays:
            self._replays[end]()
        else:
            self._step(end)

    def _capture_all(self, capture: Capture) -> None:
        """Captures a graph a bucket; the next prefill overwrites what that leaves in logits, codes, cache."""
        text_len, length = self._model.config.text_len, self._model.config.image_len
        for end in sorted({self._end(p) for p in range(text_len, text_len + length - 1)}):
            first = max(end - BUCKET, text_len)
            self._replays[end] = capture(
                functools.partial(self._step, end), functools.partial(self._position.fill_, first)
            )
        self._moves = self._model.moves

    @torch.inference_mode()
    def distance(self, text_ids: Tensor) -> float:
        """How far the logits of a step are from those of the plain one, both after the same code, as a share
        of the largest logit; inf if they are not finite. The graphs must have been captured."""
        rows = rows_of_text(text_ids, self._config, self._model.config.codebook_size)
        first = self._model.config.text_len
        self._logits.copy_(self._model.prefill(rows))
        self._uniforms.fill_(0.5)
        self._position.fill_(first)
        self._play(self._end(first))
        found, drawn = self._logits.float(), self._codes[:, 0]
        self._model.prefill(rows)
        expected = self._model.step(drawn.repeat(self._config.rows_per_picture), first).float()
        off = float((found - expected).abs().max() / expected.abs().max())
        return off if math.isfinite(off) else math.inf
