"""generate.py --vqgan: a VQGAN whose decoder alone was trained on paints the codes of the old one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.flags import TableFlags
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.identity import identity, open_decoder
from painter_core.text.tokenizer import builtin_tokenizer
from tests.support.jobs import TINY_VQGAN


def write_vqgan(directory: Path, vqgan: VQGAN, changed: str) -> Path:
    """The same VQGAN with other weights where names begin with `changed`."""
    other = VQGAN(TINY_VQGAN)
    other.load_state_dict({k: v + 0.05 * k.startswith(changed) for k, v in vqgan.state_dict().items()})
    write_model(directory, vqgan=other, card="test")
    return directory


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VQGAN]:
    """A model directory, and its VQGAN."""
    torch.manual_seed(3)
    vqgan, tokenizer = VQGAN(TINY_VQGAN), builtin_tokenizer()
    gpt = GPTConfig(
        text_vocab_size=tokenizer.vocab_size, codebook_size=TINY_VQGAN.codebook_size, text_len=8,
        image_len=TINY_VQGAN.image_len, n_layer=1, n_head=1, n_embd=8,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("other") / "model"
    write_model(path, vqgan=vqgan, gpt=GPT(gpt), tokenizer=tokenizer, card="test")
    return path, vqgan


def config(model: Path, vqgan: Path | None) -> GenerateConfig:
    table = TableFlags(tables="prompts.tsv", outputs="out")
    return GenerateConfig(table=table, checkpoint_dir=str(model), vqgan=str(vqgan) if vqgan else None)


def test_another_decoder_paints_the_same_codes(model: tuple[Path, VQGAN], tmp_path: Path) -> None:
    path, vqgan = model
    other = write_vqgan(tmp_path / "other", vqgan, "decoder.conv_out")
    opened = open_model(str(path))
    decoder = open_decoder(config(path, other), opened)
    painted = [
        next(
            Painter(
                opened, device=torch.device("cpu"), precision="fp32", sampling=SamplingConfig(), seed=1,
                micro_batch_size=1, vqgan=choice,
            ).paint([Request(idx="a", text="红色T恤")])
        )
        for choice in (None, decoder)
    ]  # fmt: skip
    np.testing.assert_array_equal(painted[0][0], painted[1][0])
    assert (painted[0][1] != painted[1][1]).any()
    old, new = (identity(config(path, choice), opened) for choice in (None, other))
    assert {k for k in old if old[k] != new[k]} == {"vqgan_sha256"}  # another table, not a resumed one


@pytest.mark.parametrize("changed", ["encoder.conv_in", "quant_conv", "quantize"])
def test_other_codes_are_refused(model: tuple[Path, VQGAN], tmp_path: Path, changed: str) -> None:
    path, vqgan = model
    other = write_vqgan(tmp_path / "other", vqgan, changed)
    with pytest.raises(ValueError, match=r"--vqgan .*other: makes other codes than the VQGAN of"):
        open_decoder(config(path, other), open_model(str(path)))


def test_other_geometry_is_refused(model: tuple[Path, VQGAN], tmp_path: Path) -> None:
    path, _ = model
    write_model(tmp_path / "other", vqgan=VQGAN(replace(TINY_VQGAN, codebook_size=32)), card="test")
    with pytest.raises(ValueError, match="makes other codes"):
        open_decoder(config(path, tmp_path / "other"), open_model(str(path)))
