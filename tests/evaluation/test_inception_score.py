"""The Inception Score: 1 for pictures that are all alike, the number of classes for sure and even ones."""

import numpy as np
import pytest

from painter_core.evaluation.inception_score import inception_score

CLASSES, D = 12, 16


def weights() -> np.ndarray:
    return np.random.RandomState(0).standard_normal((CLASSES, D)).astype(np.float32)


def features(n: int) -> np.ndarray:
    return np.random.RandomState(n).gamma(2.0, 0.5, (n, D)).astype(np.float32)


def by_hand(x: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    """As torch-fidelity: shuffle, split, exp of the mean KL."""
    logits = x[np.random.RandomState(2020).permutation(len(x))].astype(float) @ w.T.astype(float)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = []
    for i in range(10):
        q = p[i * len(p) // 10 : (i + 1) * len(p) // 10]
        scores.append(np.exp((q * np.log(q / q.mean(0))).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


@pytest.mark.parametrize("n", [10, 23, 1000])
def test_it_is_torch_fidelitys(n: int) -> None:
    x, w = features(n), weights()
    found = inception_score([x], n, w)
    assert (found.mean, found.deviation) == pytest.approx(by_hand(x, w), rel=1e-9, abs=1e-12)
    assert found.splits == 10


@pytest.mark.parametrize("cut", [1, 7, 512])
def test_parts_of_any_size_give_the_same_bits(cut: int) -> None:
    x, w = features(1100), weights()
    assert inception_score((x[i : i + cut] for i in range(0, 1100, cut)), 1100, w) == inception_score(
        [x], 1100, w
    )


def test_its_ends() -> None:
    w = np.eye(CLASSES, D, dtype=np.float32) * 1e4  # a class for each of the first features, and no doubt
    even = np.eye(CLASSES, D, dtype=np.float32)[np.arange(1200) % CLASSES]
    order = np.argsort(np.random.RandomState(2020).permutation(len(even)))
    assert inception_score([even[order]], len(even), w).mean == pytest.approx(CLASSES)
    assert inception_score([np.repeat(features(1), 50, 0)], 50, weights()).mean == pytest.approx(1.0)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_pictures_have_as_many_splits(n: int) -> None:
    found = inception_score([features(n)], n, weights())
    assert (found.mean, found.deviation, found.splits) == (1.0, pytest.approx(0, abs=1e-12), n)


def test_classes_that_no_picture_has_are_no_nan() -> None:
    x = np.zeros((20, D), np.float32)
    x[:, 0] = 1e6
    assert inception_score([x], 20, weights() * 1e3).mean == pytest.approx(1.0)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 rows"):
        inception_score([], 0, weights())
