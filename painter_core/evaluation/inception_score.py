"""The Inception Score (Salimans et al. 2016): exp of how far single pictures' classes differ from all
pictures' together, the mean over ten splits.

As torch-fidelity computes it: classes from features without the layer's bias, in float64, rows shuffled with
seed 2020. Streamed: a row's split follows from its number alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from painter_core.evaluation.statistics import blocks

SPLITS = 10
SEED = 2020


@dataclass(frozen=True, kw_only=True)
class InceptionScore:
    """1 for pictures that are all alike, at most the number of classes."""

    mean: float
    deviation: float
    splits: int


def inception_score(features: Iterable[np.ndarray], n: int, weights: np.ndarray) -> InceptionScore:
    """The score of n rows of features (X, D), in as many splits as there are rows, at most ten.

    Args:
        weights: (classes, D), Inception's fc.weight.

    Raises:
        ValueError: no rows.
    """
    if n < 1:
        raise ValueError("inception score: got 0 rows, expected at least 1")
    splits = min(SPLITS, n)
    split = _split_of_rows(n, splits)
    counts = np.bincount(split, minlength=splits)
    shares, entropies = np.zeros((splits, len(weights))), np.zeros(splits)
    wide, start = weights.astype(np.float64), 0
    for block in blocks(features):
        logits = block.astype(np.float64) @ wide.T  # (X, classes)
        logs = logits - logits.max(1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(1, keepdims=True))
        p, where = np.exp(logs), split[start : start + len(block)]
        np.add.at(shares, where, p)
        np.add.at(entropies, where, (p * logs).sum(1))
        start += len(block)
    q = shares / counts[:, None]
    mixed = (q * np.log(np.where(q > 0, q, 1))).sum(1)
    scores = np.exp((entropies / counts - mixed).clip(0))
    return InceptionScore(mean=float(scores.mean()), deviation=float(scores.std()), splits=splits)


def _split_of_rows(n: int, splits: int) -> np.ndarray:
    """The split that each row falls into after shuffling."""
    order = np.random.RandomState(SEED).permutation(n)  # place -> row
    bounds = [i * n // splits for i in range(splits + 1)]
    split = np.empty(n, np.int64)
    for i in range(splits):
        split[order[bounds[i] : bounds[i + 1]]] = i
    return split
