"""Which samples a training step sees: a pure function of (seed, epoch, position).

An epoch is one permutation of all samples. A global batch is the next `global_batch_size` of it; the last one
of an epoch is shorter. Ranks take every world_size-th sample of the global batch, so the batches, and the
samples left in an epoch, do not depend on the number of workers.
"""

import numpy as np


def epoch_order(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """int64 permutation of 0..num_samples-1; unbiased (Fisher-Yates), 8 bytes a sample."""
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64))).permutation(
        num_samples
    )


def dropped_captions(seed: int, epoch: int, num_samples: int, share: float) -> np.ndarray:
    """bool (num_samples,): whose caption is left out in an epoch, each with probability `share`."""
    key = np.array([seed % 2**64, epoch + 2**63], np.uint64)  # another stream than the order's
    return np.random.Generator(np.random.Philox(key=key)).random(num_samples, np.float32) < share


def row_keys(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """int32 (num_samples,): a random number a row, other ones in each epoch."""
    key = np.array([seed % 2**64, epoch + 2**63 + 2**62], np.uint64)  # another stream again
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.integers(-(2**31), 2**31, num_samples, np.int32)


def drawn_variants(seed: int, epoch: int, num_samples: int, variants: int) -> np.ndarray:
    """int64 (num_samples,) below `variants`: which view of each picture is seen in an epoch."""
    key = np.array([seed % 2**64, epoch + 2**62 + 2**61], np.uint64)  # and another one
    return np.random.Generator(np.random.Philox(key=key)).integers(variants, size=num_samples)


def captioned_rows(seed: int, epoch: int, num_samples: int, share: float) -> np.ndarray:
    """bool (num_samples,): which go from picture to caption in an epoch, each with probability `share`."""
    key = np.array([seed % 2**64, epoch + 2**62], np.uint64)  # a stream of its own again
    return np.random.Generator(np.random.Philox(key=key)).random(num_samples, np.float32) < share


def rank_share(batch: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """The samples of a global batch that `rank` takes; shares differ by at most one in size."""
    return batch[rank::world_size]


def steps_per_epoch(num_samples: int, global_batch_size: int) -> int:
    """Global batches an epoch, the short last one included."""
    return -(-num_samples // global_batch_size)
