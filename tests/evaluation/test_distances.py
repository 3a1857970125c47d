"""FID and its parts: exact where a closed form is known, and a real number whatever the data."""

import numpy as np
import pytest

from painter_core.evaluation.frechet import MAX_ROWS, frechet_distance, frechet_distance_of_rows
from painter_core.evaluation.statistics import Statistics, statistics

D = 48


def rows(n: int, seed: int, shift: float = 0.0, d: int = D) -> np.ndarray:
    """Features as they are: never negative, correlated, of falling weight."""
    random = np.random.RandomState(seed)
    mix = random.standard_normal((d, d)) * np.linspace(1, 0.05, d) / d**0.5
    return np.abs(random.standard_normal((n, d)) @ mix + 0.3 + shift).astype(np.float32)


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> Statistics:
    return Statistics(mean=mean, covariance=covariance, n=1000)


def rotation(seed: int, d: int) -> np.ndarray:
    return np.linalg.qr(np.random.RandomState(seed).standard_normal((d, d)))[0]


@pytest.mark.parametrize("seed", range(5))
def test_gaussians_with_common_axes_have_the_closed_form(seed: int) -> None:
    random = np.random.RandomState(seed)
    axes, a, b = rotation(seed, D), random.gamma(1.0, 1.0, D), random.gamma(1.0, 1.0, D)
    means = random.standard_normal((2, D))
    wanted = ((means[0] - means[1]) ** 2).sum() + ((a**0.5 - b**0.5) ** 2).sum()
    found = frechet_distance(gaussian(means[0], axes * a @ axes.T), gaussian(means[1], axes * b @ axes.T))
    assert found == pytest.approx(wanted, rel=1e-6)


def test_two_dimensions_have_the_closed_form() -> None:
    """tr (C1 C2)^(1/2) = sqrt(tr C1 C2 + 2 sqrt(det C1 C2)), whatever their axes."""
    a, b = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[0.5, -0.3], [-0.3, 3.0]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    wanted = 25 + np.trace(a) + np.trace(b) - 2 * root
    found = frechet_distance(gaussian(np.array([3.0, 0.0]), a), gaussian(np.array([0.0, 4.0]), b))
    assert found == pytest.approx(wanted, rel=1e-9)


def test_singular_covariances_have_the_closed_form() -> None:
    a, b = np.diag([4.0, 0.0, 1.0]), np.diag([1.0, 9.0, 0.0])
    found = frechet_distance(gaussian(np.zeros(3), a), gaussian(np.zeros(3), b))
    assert found == pytest.approx(1 + 9 + 1, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 3), (20, 31), (47, 200), (500, 517), (300, 3000)])
def test_both_forms_agree(n: int, m: int) -> None:
    x, y = rows(n, 1), rows(m, 2, 0.05)
    of_rows = frechet_distance_of_rows(x, y)
    assert frechet_distance(statistics([x]), statistics([y])) == pytest.approx(of_rows, rel=1e-6)
    assert of_rows > 0


def test_both_forms_agree_where_there_are_fewer_rows_than_features() -> None:
    x, y = rows(60, 1, d=256), rows(70, 2, 0.05, d=256)
    of_rows = frechet_distance_of_rows(x, y)
    assert frechet_distance(statistics([x]), statistics([y])) == pytest.approx(of_rows, rel=1e-6)


@pytest.mark.parametrize("n", [2, 3, 40, 48, 49, 500, 3000])
def test_a_set_has_distance_0_from_itself(n: int) -> None:
    x = rows(n, 5)
    assert frechet_distance_of_rows(x, x) == 0.0
    assert frechet_distance(statistics([x]), statistics([x])) == 0.0
    shuffled = x[np.random.RandomState(0).permutation(n)]
    limit = 1e-6 * statistics([x]).covariance.trace()
    assert n > MAX_ROWS or 0 <= frechet_distance_of_rows(x, shuffled) <= limit
    assert 0 <= frechet_distance(statistics([x]), statistics([shuffled])) <= limit


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.full((5, D), 0.3, np.float32), np.full((9, D), 0.3, np.float32)),  # constant pictures, both sides
        (np.full((5, D), 0.3, np.float32), rows(50, 1)),
        (rows(50, 1), np.zeros((2, D), np.float32)),
        (np.repeat(rows(1, 1), 30, 0), np.repeat(rows(2, 1), 30, 0)),
        (rows(2, 1) * 1e6, rows(2, 2) * 1e6),
        (rows(30, 1) * 1e-8, rows(30, 2) * 1e-8),
    ],
)
def test_it_is_a_number_whatever_the_features(x: np.ndarray, y: np.ndarray) -> None:
    forms = [
        frechet_distance_of_rows(x, y),
        frechet_distance_of_rows(y, x),
        frechet_distance(statistics([x]), statistics([y])),
        frechet_distance(statistics([y]), statistics([x])),
    ]
    scale = max(forms) + 1e-6 * max(statistics([x]).covariance.trace(), statistics([y]).covariance.trace())
    assert all(isinstance(value, float) and np.isfinite(value) and value >= 0 for value in forms)
    assert max(forms) - min(forms) <= 1e-6 * scale
    equal = np.ptp(x) == np.ptp(y) == 0 and x.flat[0] == y.flat[0]
    assert (max(forms) == 0) == equal


def test_it_is_symmetric() -> None:
    x, y = rows(300, 1), rows(310, 2, 0.1)
    assert frechet_distance_of_rows(x, y) == pytest.approx(frechet_distance_of_rows(y, x), rel=1e-9)


def test_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="1 and 5 rows, expected at least 2"):
        frechet_distance_of_rows(rows(1, 1), rows(5, 2))
    with pytest.raises(ValueError, match="got 1 rows, expected at least 2"):
        statistics([rows(1, 1)])
