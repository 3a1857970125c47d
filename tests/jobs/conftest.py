"""What needs Ray: one head for the whole run, and what jobs made on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.jobs import TINY_GPT_FLAGS, TINY_VQGAN, Jobs, start_head, stop_head, write_vqgan


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """Jobs on a head that lives as long as the test run.

    It has two CPUs whatever the machine has: what jobs choose by their number, and say of it, is tested too.
    """
    head = start_head(2, dies_with_parent=True)
    yield Jobs(head=head, cache=tmp_path_factory.mktemp("cache"))
    stop_head(head)


@pytest.fixture(scope="session")
def tiny_vqgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of 32 x 32 pixels and 64 codes: jobs that are killed at their work must take a while."""
    return write_vqgan(tmp_path_factory.mktemp("models") / "vqgan", TINY_VQGAN)


@pytest.fixture(scope="session")
def codes(jobs: Jobs, pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed codes table."""
    out = tmp_path_factory.mktemp("codes") / "codes"
    jobs.run("precompute_codes", "--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", out)
    return out


@pytest.fixture(scope="session")
def model(jobs: Jobs, codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for a few steps."""
    out = tmp_path_factory.mktemp("model") / "model"
    flags = ("--learning-rate", "1e-3", "--precision", "fp32", "--micro-batch-size", "32")
    jobs.run("train", "--tables", codes, "--checkpoint-dir", out, *TINY_GPT_FLAGS, *flags)
    return out
