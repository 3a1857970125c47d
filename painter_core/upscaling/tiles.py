"""A picture in overlapping tiles through a function that enlarges it: what does not fit the memory at once.

Neighbours overlap by OVERLAP_PX pixels and are cut in the middle of it. A function that sees no further than
half of that to each side gives the same picture as without tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

OVERLAP_PX = 16


@dataclass(frozen=True)
class Span:
    """A stretch of one axis, in pixels: what is read of it, and what is kept of that."""

    start: int
    stop: int
    first: int
    last: int


def spans(length: int, tile: int) -> list[Span]:
    """The tiles of an axis, all of one length; the last one is moved back to the end.

    What is kept of them follows each other without a gap.
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    starts = [*range(0, length - tile, tile - OVERLAP_PX), length - tile]
    cuts = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), length]
    kept = zip(starts, pairwise(cuts), strict=True)
    return [Span(start, start + tile, first, last) for start, (first, last) in kept]


def in_tiles(
    picture: np.ndarray, enlarge: Callable[[np.ndarray], np.ndarray], *, scale: int, tile: int
) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (H * scale, W * scale, 3), tile by tile.

    Args:
        enlarge: the same for a tile.
        tile: most pixels a side that it is given.
    """
    height, width = picture.shape[:2]
    if max(height, width) <= tile:
        return enlarge(picture)
    whole = np.empty((height * scale, width * scale, 3), np.uint8)
    for down in spans(height, tile):
        for across in spans(width, tile):
            part = enlarge(picture[down.start : down.stop, across.start : across.stop])
            whole[down.first * scale : down.last * scale, across.first * scale : across.last * scale] = part[
                (down.first - down.start) * scale : (down.last - down.start) * scale,
                (across.first - across.start) * scale : (across.last - across.start) * scale,
            ]
    return whole
