"""Sampling by steps whose shapes and addresses never change: compiled, and on a GPU each one CUDA graph.

It draws what sampling.sample_codes draws. There a GPU waits for the host, which launches some two hundred
small kernels a step; here a step is one launch. The cache is read in buckets: up to the next multiple of
BUCKET positions instead of all of them, with one graph a bucket.
"""

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
# of the step: buckets (32 of 1,024 codes), times the numbers of pictures after a GPU ran out of memory
MOST_VERSIONS = 512
WARM_UP = 3  # runs before a capture, in which libraries allocate what they need


def _compiled(step: Callable[[int], None]) -> Callable[[int], None]:
    """A step that is compiled for each bucket; an error, instead of a slow step, if that cannot be done."""
    # torch gives up on a function after eight versions: that is f16_16384's eight buckets of one sampler
    torch._dynamo.config.recompile_limit = MOST_VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = MOST_VERSIONS
    return torch.compile(step, dynamic=False, fullgraph=True)


class StaticSampler:
    """Codes of whole pictures, always of the same number of pictures B.

    Args:
        model: its cache is overwritten; nobody else may use it.
        config: how codes are drawn.
        pictures: B.
        compiled: steps by torch.compile; on a GPU they are captured in any case.
        scored: whether log p of the codes is kept.
    """

    def __init__(
        self, model: CachedGPT, config: SamplingConfig, pictures: int, *, compiled: bool, scored: bool = False
    ) -> None:
        self._model, self._config = model, config
        shape = (pictures, model.config.image_len)
        self._codes = torch.zeros(shape, dtype=torch.int64, device=model.device)
        self._uniforms = torch.zeros(shape, device=model.device)
        scores = (pictures, config.rows_per_picture if scored else 0, model.config.image_len)
        self._log_p = torch.zeros(scores, device=model.device)
        shape = (pictures * config.rows_per_picture, model.config.codebook_size)
        self._logits = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self._position = torch.zeros(1, dtype=torch.int64, device=model.device)
        self._sound = torch.ones((), dtype=torch.bool, device=model.device)
        self._step = _compiled(self._plain_step) if compiled else self._plain_step
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

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
        if self._model.device.type == "cuda" and not self._graphs:
            self._capture_all()
            self._logits.copy_(self._model.prefill(rows))
        self._sound.fill_(True)
        first = rows.shape[1]
        if start is not None:
            self._codes[:, : start.shape[1]] = start
        self._position.fill_(first)
        for position in range(first, text_len + length - 1):
            end = self._end(position)
            if end in self._graphs:
                self._graphs[end].replay()
            else:
                self._step(end)
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

    def _plain_step(self, end: int) -> None:
        """Draws a code, and computes the logits of the next."""
        rows = self._draw().repeat(self._config.rows_per_picture)
        self._logits.copy_(self._model.static_step(rows, self._position, end))
        self._position.add_(1)

    def _capture_all(self) -> None:
        """Captures a graph a bucket; the next prefill overwrites what that leaves in logits, codes, cache."""
        first, length = self._model.config.text_len, self._model.config.image_len
        for end in sorted({self._end(p) for p in range(first, first + length - 1)}):
            self._graphs[end] = self._capture(end)

    def _capture(self, end: int) -> torch.cuda.CUDAGraph:
        first = max(end - BUCKET, self._model.config.text_len)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._position.fill_(first)
                self._step(end)
        torch.cuda.current_stream().wait_stream(side)
        self._position.fill_(first)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(end)
        return graph
