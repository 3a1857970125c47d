"""Dropout whose noise is a function of a key a row: the same in whatever batch a row is, on whatever device,
and each time it is computed. So a run that is resumed, or has other workers, drops the same.

A hash of key, place and element decides, in 32-bit integers that wrap around. Shapes: B rows.
"""

import torch
from torch import Tensor

# odd multipliers of Chris Wellons' lowbias32, as signed numbers
FIRST_FACTOR, SECOND_FACTOR = 0x7FEB352D, 0x846CA68B - 2**32
GOLDEN = 0x9E3779B9 - 2**32  # 2^32 / golden ratio: spreads small numbers


def mixed(keys: Tensor, number: int) -> Tensor:
    """Other keys, int32 as they are, for another use."""
    # torch refuses numbers that do not fit into 32 bits
    spread = (number * GOLDEN + 2**31) % 2**32 - 2**31
    return _hashed(keys ^ spread)


def _shifted(x: Tensor, number: int) -> Tensor:
    """x >> number, zeros from the left: torch's own keeps the sign."""
    return (x >> number) & (2 ** (32 - number) - 1)


def _hashed(x: Tensor) -> Tensor:
    """Well-mixed bits of int32 numbers."""
    x = (x ^ _shifted(x, 16)) * FIRST_FACTOR
    x = (x ^ _shifted(x, 15)) * SECOND_FACTOR
    return x ^ _shifted(x, 16)


def random_bits(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Random int32 of a shape (B, ...), from well-mixed keys (B,)."""
    bits = keys
    for size in shape[1:]:
        places = torch.arange(1, size + 1, dtype=torch.int32, device=keys.device) * GOLDEN  # (size,)
        bits = _hashed(bits)[..., None] + places
    # the last step is for every element: half of a hash, in which the upper bits are mixed well enough
    bits = bits * FIRST_FACTOR
    return (bits ^ _shifted(bits, 15)) * SECOND_FACTOR


def dropped(x: Tensor, keys: Tensor, share: float) -> Tensor:
    """Sets a share of x (B, ...) to 0 and scales up the rest.

    Args:
        keys: int32 (B,).
        share: 0 to below 1.
    """
    kept = random_bits(keys, tuple(x.shape)) >= int(share * 2**32) - 2**31
    return x * (kept.to(x.dtype) / (1 - share))  # one product with a gradient, not two
