"""Checkpoints of taming-transformers: a VQGAN alone, and the YAML beside it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from painter_core.model_files.from_foreign import ConvertOptions
from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGAN
from tests.support.foreign import VQGAN_TINY, converted, formula_state, same, taming_yaml


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("place", ["model.yaml", "last.yaml", "../configs/model.yaml", None])
def test_taming_checkpoint(tmp_path: Path, nested: bool, place: str | None) -> None:
    state = formula_state(VQGAN, VQGAN_TINY) | {"loss.discriminator.main.0.weight": torch.ones(4, 3)}
    content = {"state_dict": state, "epoch": 3, "global_step": 77, "optimizer_states": [{"state": {}}]}
    file = tmp_path / "checkpoints" / "last.ckpt"
    file.parent.mkdir()
    (tmp_path / "configs").mkdir()
    torch.save(content if nested else state, file)
    if place:
        (file.parent / place).write_text(taming_yaml())
    options = ConvertOptions(image_size=None if place else 32)
    report = converted(file, tmp_path / "ours", options)
    model = open_model(str(tmp_path / "ours"))
    assert (model.vqgan_config, model.gpt_config) == (VQGAN_TINY, None)
    same(load_file(tmp_path / "ours" / "vqgan.safetensors"), formula_state(VQGAN, VQGAN_TINY))
    assert any("1 of loss.*" in line for line in report)
    assert any("agrees with the tensors" in line for line in report) == (place is not None)


def test_taming_config_is_compared_with_the_tensors(tmp_path: Path) -> None:
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(
        taming_yaml().replace("n_embed: 64", "n_embed: 65").replace("ch: 32", "ch: 64")
    )
    with pytest.raises(ValueError, match="ch is 64, the tensors say 32; codebook_size is 65"):
        converted(tmp_path / "v.ckpt", tmp_path / "ours")
    (tmp_path / "v.yaml").write_text("model: 3")
    with pytest.raises(ValueError, match="no config of a taming VQGAN"):
        converted(tmp_path / "v.ckpt", tmp_path / "ours")
    (tmp_path / "v.yaml").write_text("!!python/object/apply:os.system ['touch pwned']")
    with pytest.raises(ValueError, match="no config of a taming VQGAN"):
        converted(tmp_path / "v.ckpt", tmp_path / "ours")


def test_another_image_size_than_the_yaml_says(tmp_path: Path) -> None:
    torch.save(formula_state(VQGAN, VQGAN_TINY), tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(taming_yaml())
    converted(tmp_path / "v.ckpt", tmp_path / "ours", ConvertOptions(image_size=64))
    vqgan = open_model(str(tmp_path / "ours")).vqgan_config
    assert vqgan is not None
    assert (vqgan.image_size, vqgan.attn_resolutions, vqgan.grid_size) == (64, (16,), 16)
