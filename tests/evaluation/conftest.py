"""Fixtures of the evaluation's tests: the golden values."""

import numpy as np
import pytest

from tests.support.judges import golden_values


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """What torch-fidelity and transformers computed."""
    return golden_values()
