"""KID: the unbiased squared maximum mean discrepancy of features under the kernel (x.y / D + 1)^3.

Binkowski et al. 2018. The mean over random subsets of both sets, drawn as torch-fidelity draws them.
Unlike FID it does not depend on the number of pictures, so it is the one for small tables.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SUBSETS = 100
SUBSET_SIZE = 1000
SEED = 2020  # of torch-fidelity
Rows = Callable[[np.ndarray], np.ndarray]
"""Row numbers (k,) -> features (k, D)."""


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """KID and how far it differs between subsets."""

    mean: float
    deviation: float
    """0 if a single subset is all there is."""
    subsets: int
    subset_size: int


def kernel_distance(x: Rows, num_x: int, y: Rows, num_y: int) -> KernelDistance:
    """KID between num_x and num_y rows; a set below 1000 rows makes the subsets smaller.

    Raises:
        ValueError: a set of fewer than 2 rows.
    """
    size = min(SUBSET_SIZE, num_x, num_y)
    if size < 2:
        raise ValueError(f"kernel distance: got {num_x} and {num_y} rows, expected at least 2 of each")
    subsets = 1 if size == num_x == num_y else SUBSETS  # every subset would be the whole
    random = np.random.RandomState(SEED)
    found = []
    for _ in range(subsets):
        chosen_x = random.choice(num_x, size, replace=False)
        chosen_y = random.choice(num_y, size, replace=False)
        found.append(_discrepancy(x(chosen_x).astype(np.float64), y(chosen_y).astype(np.float64)))
    return KernelDistance(
        mean=float(np.mean(found)), deviation=float(np.std(found)), subsets=subsets, subset_size=size
    )


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Distance of two sets (k, D)."""
    k = len(x)
    within = sum((kernel.sum() - kernel.trace()) / (k * (k - 1)) for kernel in (_kernel(x, x), _kernel(y, y)))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
