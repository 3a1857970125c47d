"""The order of training samples: every sample of an epoch once, whatever the number of workers."""

import numpy as np
import pytest

from painter_core.training.data_order import dropped_captions, epoch_order, rank_share, steps_per_epoch


@pytest.mark.parametrize("num_samples", [1, 2, 7, 1000])
def test_an_epoch_is_a_permutation(num_samples: int) -> None:
    order = epoch_order(3, 0, num_samples)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num_samples))
    np.testing.assert_array_equal(order, epoch_order(3, 0, num_samples))


def test_orders_are_fixed_and_differ() -> None:
    assert epoch_order(42, 0, 8).tolist() == [7, 0, 4, 2, 1, 3, 5, 6]
    assert epoch_order(42, 1, 8).tolist() == [5, 1, 4, 7, 3, 0, 2, 6]
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in (0, 1, 2**63 - 1) for epoch in range(5)}
    assert len(orders) == 15


def test_negative_seeds_differ_too() -> None:
    assert len({tuple(epoch_order(seed, 0, 50)) for seed in (-1, -2, 2**63, 2**63 + 1)}) == 4


def test_the_shuffle_is_unbiased() -> None:
    # each of 6 samples at each of 6 places about n / 6 times: 5 standard deviations
    n = 3000
    orders = np.stack([epoch_order(7, epoch, 6) for epoch in range(n)])
    counts = np.stack([np.bincount(orders[:, place], minlength=6) for place in range(6)])
    assert abs(counts - n / 6).max() < 5 * (n * 5 / 36) ** 0.5


def test_captions_are_dropped_at_their_share_and_others_in_each_epoch() -> None:
    dropped = np.stack([dropped_captions(42, epoch, 1000, 0.1) for epoch in range(40)])
    np.testing.assert_array_equal(dropped[3], dropped_captions(42, 3, 1000, 0.1))
    assert abs(dropped.mean() - 0.1) < 5 * (0.09 / dropped.size) ** 0.5
    assert (dropped.sum(0) > 0).mean() > 0.9  # 1 - 0.9 ** 40 = 0.985 of the samples at least once


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 7, 8, 64])
def test_ranks_share_a_global_batch(world_size: int, size: int) -> None:
    batch = epoch_order(1, 0, 100)[:size]
    shares = [rank_share(batch, rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(batch.tolist())
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("num_samples", "batch", "steps"), [(1, 8, 1), (8, 8, 1), (9, 8, 2), (1024, 8, 128), (7, 1, 7)]
)
def test_steps_count_the_short_last_batch(num_samples: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(num_samples, batch) == steps
    order = epoch_order(0, 0, num_samples)
    cuts = [order[step * batch : (step + 1) * batch] for step in range(steps)]
    assert np.concatenate(cuts).tolist() == order.tolist()
    assert all(len(cut) for cut in cuts)
