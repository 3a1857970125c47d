"""Whether a tensor is finite, in every kind of float that a file may hold."""

import pytest
import torch

from painter_core.model_files.finite import is_finite

KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_value_spoils_a_tensor(kind: torch.dtype) -> None:
    sound = torch.linspace(-2, 2, 101).to(kind)
    assert is_finite(sound)
    for value in (float("nan"), float("inf"), -float("inf")):
        spoilt = sound.clone()
        spoilt[40] = value
        assert not is_finite(spoilt)


def test_the_largest_numbers_and_no_numbers_are_finite() -> None:
    assert is_finite(torch.full((1000,), torch.finfo(torch.float32).max))
    assert is_finite(torch.zeros(0))
    assert is_finite(torch.tensor(1.0))
    assert is_finite(torch.ones(3).to(torch.float8_e4m3fn)), "which knows no isfinite"
