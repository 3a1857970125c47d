"""Files of a model are as readable to others as any file that the user writes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from painter_core.model_files.directory import write_model
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN
from painter_core.text.tokenizer import from_vocab
from painter_core.training.checkpoints import publish, save_checkpoint
from tests.golden.formula import vocab
from tests.support.foreign import GPT_TINY, VQGAN_TINY


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write(directory: Path, vqgan: VQGAN | Path) -> None:
    words = "\n".join(vocab(GPT_TINY.text_vocab_size)).encode()
    write_model(directory, vqgan=vqgan, gpt=GPT(GPT_TINY), tokenizer=from_vocab(words), card="card")


def check(directory: Path, umask: int, names: str) -> None:
    files = {
        str(p.relative_to(directory)): p.stat().st_mode & 0o777 for p in directory.rglob("*") if p.is_file()
    }
    assert set(files) == set(names.split())
    assert {oct(mode) for mode in files.values()} == {oct(0o666 & ~umask)}, files
    folders = {p.stat().st_mode & 0o777 for p in (directory, *directory.rglob("*")) if p.is_dir()}
    assert folders == {0o777 & ~umask}


FILES = "README.md checkpoint.json config.json gpt.safetensors vocab.txt vqgan.safetensors"


def test_written_models(tmp_path: Path, umask: int) -> None:
    write(tmp_path / "a", VQGAN(VQGAN_TINY))
    check(tmp_path / "a", umask, FILES)
    write(tmp_path / "b", tmp_path / "a")  # with the VQGAN of another directory
    check(tmp_path / "b", umask, FILES)


def test_a_private_vqgan_is_copied_like_any_file(tmp_path: Path, umask: int) -> None:
    """Models of earlier versions have weights of mode 0600."""
    write(tmp_path / "a", VQGAN(VQGAN_TINY))
    (tmp_path / "a" / "vqgan.safetensors").chmod(0o600)
    write(tmp_path / "b", tmp_path / "a")
    check(tmp_path / "b", umask, FILES)


def test_checkpoints_and_what_is_published(tmp_path: Path, umask: int) -> None:
    path = save_checkpoint(tmp_path / "run", 3, lambda directory: write(directory, VQGAN(VQGAN_TINY)), keep=1)
    publish(tmp_path / "run" / "best", path)
    for directory in (path, tmp_path / "run" / "best"):
        check(directory, umask, FILES)
