"""The files that a user of jobs/evaluate.py would have, small ones."""

from pathlib import Path

import pytest
import torch

from tests.support.evaluation import write_gpt
from tests.support.judges import inception_state, write_clip


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """As in a worker."""


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pt_inception.pth with the formula's weights."""
    file = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(inception_state(), file)
    return file


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the tiny CLIP."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_vqgan: Path) -> Path:
    """Directory of a tiny GPT, whose captions are those of the tiny CLIP, with its VQGAN."""
    return write_gpt(tmp_path_factory.mktemp("gpt") / "model", tiny_vqgan)
