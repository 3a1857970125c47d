"""The Frechet distance between two sets of features, each taken for a Gaussian: FID if they are Inception's.

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2)

The root's trace is a sum of real numbers by construction in both forms below: never complex, never NaN, for
covariances of any rank. Rounding may take a distance of almost 0 below it; it is cut there.
"""

import numpy as np

from painter_core.evaluation.statistics import Statistics

MAX_ROWS = 2048
"""Up to so many rows of each set the form by singular values is the exact and the faster one."""


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """By eigenvalues, from means and covariances.

    (C1 C2)^(1/2) has the trace of (R C2 R)^(1/2) with R = C1^(1/2), which is symmetric.
    """
    if np.array_equal(a.mean, b.mean) and np.array_equal(a.covariance, b.covariance):
        return 0.0
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * _roots(values, a.n)) @ vectors.T
    inner = root @ b.covariance @ root
    ranks = [n for n in (a.n, b.n) if n is not None]
    between = _roots(np.linalg.eigvalsh((inner + inner.T) / 2), min(ranks, default=None)).sum()
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return _distance(a.mean, b.mean, float(traces), float(between))


def _roots(values: np.ndarray, rows: int | None) -> np.ndarray:
    """Square roots of a covariance's eigenvalues, which stand in ascending order.

    Of n rows n - 1 are not 0; what rounding makes of the others would add up, since its roots are large.
    """
    roots = np.sqrt(values.clip(0))
    if rows is not None:
        roots[: max(len(roots) - (rows - 1), 0)] = 0
    return roots


def frechet_distance_of_rows(x: np.ndarray, y: np.ndarray) -> float:
    """By singular values, from the features (n, D) and (m, D) themselves.

    With centred rows C1 = X'X / (n - 1), and the trace of the root is the sum of the singular values of X Y',
    an n x m matrix, over sqrt((n - 1) (m - 1)).

    Raises:
        ValueError: a set of fewer than 2 rows.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"frechet distance: got {len(x)} and {len(y)} rows, expected at least 2 of each")
    if np.array_equal(x, y):
        return 0.0
    (mean_x, off_x), (mean_y, off_y) = _centred(x), _centred(y)
    between = np.linalg.svd(off_x @ off_y.T, compute_uv=False).sum()
    traces = (off_x**2).sum() + (off_y**2).sum()
    return _distance(mean_x, mean_y, float(traces), float(between))


def _centred(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,), and the rows without it over sqrt(n - 1), float64."""
    off = rows - rows[0].astype(np.float64)  # equal rows: exactly 0
    mean = off.mean(0)
    return rows[0] + mean, (off - mean) / np.sqrt(len(rows) - 1)


def _distance(mean_a: np.ndarray, mean_b: np.ndarray, traces: float, between: float) -> float:
    return max(float(((mean_a - mean_b) ** 2).sum()) + traces - 2 * between, 0.0)
