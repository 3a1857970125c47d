"""Views of a picture: functions of (seed, idx, variant), each way on its own."""

import numpy as np
import pytest

from painter_core.images.augment import AUGMENTATIONS, augmented
from tests.golden.formula import image


def view(*ways: str, seed: int = 1, idx: str = "a", variant: int = 1, side: int = 64) -> np.ndarray:
    return augmented(image(0, side), ways, seed=seed, idx=idx, variant=variant)


def test_a_view_is_a_function_of_seed_idx_and_variant() -> None:
    first = view(*AUGMENTATIONS)
    assert (first.shape, first.dtype) == ((64, 64, 3), np.uint8)
    assert np.array_equal(first, view(*AUGMENTATIONS))
    others = [view(*AUGMENTATIONS, seed=2), view(*AUGMENTATIONS, idx="b"), view(*AUGMENTATIONS, variant=2)]
    assert not any(np.array_equal(first, other) for other in others)
    assert np.array_equal(view(*AUGMENTATIONS, variant=0), image(0, 64)), "the first is the picture itself"
    assert np.array_equal(view(), image(0, 64))


def test_half_of_the_views_are_mirrored_if_asked_for() -> None:
    plain = image(0, 64)
    mirrored = [np.array_equal(view("flip", variant=n), plain[:, ::-1]) for n in range(1, 101)]
    assert 30 < sum(mirrored) < 70
    kept = [np.array_equal(view("flip", variant=n), plain) for n in range(1, 101)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))


@pytest.mark.parametrize("side", [16, 64, 256])
def test_a_crop_keeps_most_of_the_picture(side: int) -> None:
    """A ramp shows which part was kept."""
    ramp = np.repeat(np.linspace(0, 255, side).astype(np.uint8)[None, :, None], side, 0).repeat(3, 2)
    for variant in range(1, 21):
        found = augmented(ramp, ("crop",), seed=1, idx="a", variant=variant)[0, :, 0].astype(int)
        assert 0.8 * 255 < found[-1] - found[0] <= 255
        assert (np.diff(found) >= -1).all(), "never mirrored"


def test_light_changes_a_little_and_the_place_not() -> None:
    plain = image(0, 64).astype(int)
    for variant in range(1, 21):
        change = np.abs(view("colour", variant=variant).astype(int) - plain)
        assert 0 < change.mean() < 40
