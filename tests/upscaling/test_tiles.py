"""Tiles of a picture: what is kept of them is the whole picture, once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from painter_core.upscaling.tiles import OVERLAP_PX, in_tiles, spans

SCALE = 3


@given(st.integers(1, 2000), st.integers(33, 300))
def test_what_is_kept_follows_each_other(length: int, tile: int) -> None:
    found = spans(length, tile)
    assert [s.first for s in found] == [0, *(s.last for s in found[:-1])]
    assert found[-1].last == length
    for span in found:
        assert 0 <= span.start <= span.first < span.last <= span.stop <= length
        assert span.stop - span.start == min(tile, length)
        at_start, at_end = span.start == 0, span.stop == length
        assert at_start or span.first - span.start >= OVERLAP_PX // 2
        assert at_end or span.stop - span.last >= OVERLAP_PX // 2


@pytest.mark.parametrize("shape", [(40, 64), (64, 65), (200, 16), (16, 200), (130, 151), (1, 1)])
def test_of_what_sees_single_pixels_tiles_make_no_difference(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    given: list[tuple[int, ...]] = []

    def enlarge(tile: np.ndarray) -> np.ndarray:
        given.append(tile.shape)
        return tile.repeat(SCALE, 0).repeat(SCALE, 1)

    found = in_tiles(picture, enlarge, scale=SCALE, tile=64)
    np.testing.assert_array_equal(found, picture.repeat(SCALE, 0).repeat(SCALE, 1))
    assert max(max(tile[:2]) for tile in given) <= 64
    assert len(set(given)) == 1, "one shape for all tiles"


def test_what_sees_its_neighbours_is_whole_at_the_cuts() -> None:
    """A running mean over 17 pixels, which reaches as far as the tiles allow for."""
    picture = np.random.default_rng(2).integers(0, 256, (150, 150, 3), np.uint8)

    def blurred(tile: np.ndarray) -> np.ndarray:
        sums = tile.astype(np.int64)
        for axis in (0, 1):
            width = [(0, 0)] * 3
            width[axis] = (OVERLAP_PX // 2, OVERLAP_PX // 2)
            windows = np.lib.stride_tricks.sliding_window_view(
                np.pad(sums, width, "edge"), OVERLAP_PX + 1, axis
            )
            sums = windows.sum(-1)
        return (sums // (OVERLAP_PX + 1) ** 2).astype(np.uint8)

    found = in_tiles(picture, blurred, scale=1, tile=64)
    np.testing.assert_array_equal(found, blurred(picture))
