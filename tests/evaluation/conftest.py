"""Fixtures of the evaluation's tests: the golden values."""

from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "evaluation.npz"


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """What torch-fidelity and transformers computed (tests/golden/make_evaluation.py)."""
    with np.load(GOLDEN) as archive:
        return {name: archive[name] for name in archive.files}
