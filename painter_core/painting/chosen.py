"""Captions to the pictures that are kept: drawn, scored, chosen, and only then decoded.

Shapes: n pictures in all, a caption's after each other; L image_len, S image_size.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from painter_core.painting.painter import Painter, Request
from painter_core.painting.scores import ChoiceConfig, Kept, Score


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures of some captions."""

    codes: np.ndarray
    """uint16 (n, L)."""
    pixels: np.ndarray
    """uint8 (n, S, S, 3), or (0, S, S, 3) if they were not to be decoded."""
    kept: Kept
    scores: dict[Score, np.ndarray]
    """float32 (n,) each."""


def paint_chosen(
    painter: Painter,
    captions: list[Request],
    *,
    choice: ChoiceConfig,
    max_generated_num: int = 1,
    decode: bool = True,
    best_first: bool = False,
    judge: Callable[[np.ndarray], np.ndarray] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Pictures:
    """Paints captions.

    Args:
        captions: their `sample` is replaced.
        max_generated_num: pictures that are drawn of each.
        decode: whether pixels are wanted.
        best_first: a caption's pictures by rank, and not as they were drawn.
        judge: for a choice by `clip`: the scores float32 (n,) of all pictures that were drawn, uint8
            (n, S, S, 3).
        progress: called after each batch with the number of pictures drawn in it.
    """
    number, size = max_generated_num, painter.vqgan.config.image_size
    requests = [dataclasses.replace(c, sample=sample) for c in captions for sample in range(number)]
    codes = [np.empty((0, painter.gpt.config.image_len), np.uint16)]
    pixels = np.empty((0, size, size, 3), np.uint8)
    tell = progress or (lambda count: None)
    if decode and not choice.scores:  # then a GPU decodes one batch while it draws the next
        pixels, done = np.empty((len(requests), size, size, 3), np.uint8), 0
        for found, batch in painter.paint(requests):
            codes.append(found.astype(np.uint16))
            pixels[done : done + len(batch)] = batch
            done += len(batch)
            tell(len(batch))
        kept = choice.choose({}, len(captions), number)
        return Pictures(codes=np.concatenate(codes), pixels=pixels, kept=kept, scores={})
    drawn = painter.draw(requests, choice.scores, progress=tell)
    if choice.ranked_by == "clip":
        assert judge is not None
        whole = painter.decoder.whole(drawn.codes)
        drawn.scores["clip"] = judge(whole)
        kept = choice.choose(drawn.scores, len(captions), number, best_first=best_first)
        pixels = whole[kept.rows] if decode else pixels
    else:
        kept = choice.choose(drawn.scores, len(captions), number, best_first=best_first)
        pixels = painter.decoder.whole(drawn.codes[kept.rows]) if decode else pixels
    scores = {name: values[kept.rows] for name, values in drawn.scores.items()}
    return Pictures(codes=drawn.codes[kept.rows], pixels=pixels, kept=kept, scores=scores)
