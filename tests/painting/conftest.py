"""A tiny model with weights by formula, and one thread for it."""

from collections.abc import Iterator

import pytest
import torch

from painter_core.model_files.directory import write_model
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN
from painter_core.text.tokenizer import from_vocab
from tests.golden.formula import vocab
from tests.support.foreign import GPT_TINY, VQGAN_TINY, formula_state


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    # a tiny model gains nothing by more, and loses much on a busy machine
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "model"
    modules = []
    for kind, config in ((VQGAN, VQGAN_TINY), (GPT, GPT_TINY)):
        modules.append(kind(config))
        modules[-1].load_state_dict(formula_state(kind, config))
    words = "\n".join(vocab(GPT_TINY.text_vocab_size)).encode()
    write_model(path, vqgan=modules[0], gpt=modules[1], tokenizer=from_vocab(words), card="")
    return str(path)
