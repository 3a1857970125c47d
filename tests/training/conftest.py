"""What several trainings learn from."""

from pathlib import Path

import pytest

from tests.support.codes_table import make_codes


@pytest.fixture(scope="session")
def codes(pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codes table of `pairs`, made without Ray."""
    return make_codes(pairs, tiny_vqgan, tmp_path_factory.mktemp("codes") / "codes")
