"""A model directory with a text head: one file more, and what paints keeps its name."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from painter_core.model_files.directory import read_directory, write_model
from painter_core.models.gpt import CAPTIONS, GPT, GPTConfig, with_text_head
from painter_core.stages.convert_checkpoint import ConvertConfig, convert
from tests.support.captioning import write_captioner

CONFIG = GPTConfig(
    text_vocab_size=50, codebook_size=32, text_len=6, image_len=16, n_layer=1, n_head=2, n_embd=16
)


def write(directory: Path, gpt: GPT) -> dict[str, bytes]:
    write_model(directory, gpt=gpt, card="x")
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_head_is_a_file_beside_the_others(tmp_path: Path) -> None:
    torch.manual_seed(1)
    plain = GPT(CONFIG).eval()
    both = with_text_head(plain)
    before, after = write(tmp_path / "plain", plain), write(tmp_path / "both", both)
    assert set(after) - set(before) == {"text_head.safetensors"}
    assert before["gpt.safetensors"] == after["gpt.safetensors"]
    opened = read_directory(tmp_path / "both")
    opened.check_weights()
    assert opened.gpt_sha256() == read_directory(tmp_path / "plain").gpt_sha256()
    assert opened.gpt_config == both.config
    state = opened.load_gpt().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in both.state_dict().items())
    assert list(json.loads(before["config.json"])["gpt"]) == [
        "text_vocab_size", "codebook_size", "text_len", "image_len", "n_layer", "n_head", "n_embd",
    ]  # fmt: skip


def test_a_model_that_only_captions_has_no_head_over_codes(tmp_path: Path) -> None:
    gpt = GPT(dataclasses.replace(CONFIG, directions=(CAPTIONS,)))
    write(tmp_path / "model", gpt)
    found = read_directory(tmp_path / "model").load_gpt()
    assert torch.equal(found.text_head.weight, gpt.text_head.weight)
    assert not hasattr(found, "head")


def test_damage_is_found(tmp_path: Path) -> None:
    write(tmp_path / "both", with_text_head(GPT(CONFIG)))
    model = read_directory(tmp_path / "both")
    file = tmp_path / "both" / "text_head.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"text_head\.safetensors is damaged"):
        model.load_gpt()
    file.unlink()
    for read in (model.check_weights, model.load_gpt, model.text_head_sha256):
        with pytest.raises(ValueError, match=r"text_head\.safetensors: no such file"):
            read()


def test_easynlp_gets_a_model_that_only_paints(tmp_path: Path) -> None:
    source = write_captioner(tmp_path / "both")
    report = convert(ConvertConfig(source=str(source), outputs=str(tmp_path / "easynlp"), to="easynlp"))
    assert "text_head.weight left out: EasyNLP's model only paints" in report
    state = torch.load(tmp_path / "easynlp" / "pytorch_model.bin", weights_only=True)
    assert not [name for name in state if "text_head" in name]
    weights = read_directory(source).load_gpt().state_dict()
    assert torch.equal(state["transformer.head.weight"], weights["head.weight"])
