"""KID: unbiased, as torch-fidelity draws it, a number whatever the features."""

import numpy as np
import pytest

from painter_core.evaluation.kernel_distance import kernel_distance

D = 32


def rows(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return (np.random.RandomState(seed).standard_normal((n, D)) * 0.5 + shift).astype(np.float32)


def of(x: np.ndarray, y: np.ndarray) -> float:
    return kernel_distance(x.__getitem__, len(x), y.__getitem__, len(y)).mean


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Sums over pairs, as the paper writes them."""
    kernel = lambda a, b: (float(a.astype(float) @ b.astype(float)) / D + 1) ** 3  # noqa: E731
    k = len(x)
    within = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(k) for j in range(k) if i != j) / (
        k * (k - 1)
    )
    return within - 2 * sum(kernel(a, b) for a in x for b in y) / k**2


def test_it_is_the_papers() -> None:
    x, y = rows(9, 1), rows(9, 2, 0.2)
    assert of(x, y) == pytest.approx(by_hand(x, y), rel=1e-9)


def test_it_does_not_depend_on_the_number_of_rows() -> None:
    """Two samples of one distribution: around 0 at any size, where FID is far above."""
    found = [np.mean([of(rows(n, 2 * s), rows(n, 2 * s + 1)) for s in range(60)]) for n in (4, 16, 64)]
    shifted = of(rows(64, 1), rows(64, 2, 0.3))
    assert shifted > 0.05
    assert np.abs(found).max() < shifted / 4


def test_a_set_against_itself_is_about_0() -> None:
    x = rows(900, 1)
    assert abs(of(x, x)) < 0.004
    assert of(x, x) < of(x, rows(900, 2, 0.1))


def test_subsets_are_as_large_as_the_smaller_set(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = rows(20, 1), rows(1500, 2)
    found = kernel_distance(few.__getitem__, 20, many.__getitem__, 1500)
    assert (found.subsets, found.subset_size) == (100, 20)
    assert found.deviation > 0
    monkeypatch.setattr("painter_core.evaluation.kernel_distance.SUBSETS", 2)  # of 1000 they take seconds
    large = kernel_distance(many.__getitem__, 1500, many.__getitem__, 1500)
    assert large.subset_size == 1000
    whole = kernel_distance(few.__getitem__, 20, few.__getitem__, 20)
    assert (whole.subsets, whole.deviation) == (1, 0.0)


@pytest.mark.parametrize("x", [np.zeros((2, D), np.float32), np.full((7, D), 3.0, np.float32)])
def test_constant_features_are_a_number(x: np.ndarray) -> None:
    assert of(x, x) == pytest.approx(0, abs=1e-9)
    assert np.isfinite(of(x, rows(7, 1)))


def test_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="1 and 5 rows, expected at least 2"):
        of(rows(1, 1), rows(5, 2))
