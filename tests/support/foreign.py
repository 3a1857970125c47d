"""Foreign checkpoints for the tests, with weights by formula."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from painter_core.model_files.from_foreign import ConvertOptions
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.unfilled import unfilled
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.stages.convert_checkpoint import ConvertConfig, convert
from tests.golden.formula import fill, vocab

VQGAN_TINY = VQGANConfig(
    image_size=32,
    ch=32,
    ch_mult=(1, 1, 2),
    num_res_blocks=1,
    attn_resolutions=(8,),
    z_channels=16,
    embed_dim=8,
    codebook_size=64,
)
GPT_TINY = GPTConfig(
    text_vocab_size=300, codebook_size=64, text_len=8, image_len=64, n_layer=2, n_head=2, n_embd=32
)


@cache
def _formula_state(kind: Any, config: Any) -> dict[str, Tensor]:
    shapes = {name: tuple(tensor.shape) for name, tensor in unfilled(kind, config).state_dict().items()}
    return {name: torch.from_numpy(fill(name, shape)) for name, shape in shapes.items()}


def formula_state(kind: Any, config: Any, prefix: str = "") -> dict[str, Tensor]:
    """A model's state dict with formula weights (by names without the prefix)."""
    return {prefix + name: tensor for name, tensor in _formula_state(kind, config).items()}


def easynlp_state(vqgan: VQGANConfig = VQGAN_TINY, gpt: GPTConfig = GPT_TINY) -> dict[str, Tensor]:
    """What EasyNLP's pytorch_model.bin holds: VQGAN with leftovers of its training, GPT with masks."""
    state = formula_state(VQGAN, vqgan, "first_stage_model.")
    state["first_stage_model.loss.discriminator.main.0.weight"] = torch.ones(4, 3, 4, 4)
    state |= formula_state(GPT, gpt, "transformer.")
    side = gpt.block_size
    for i in range(gpt.n_layer):
        state[f"transformer.blocks.{i}.attn.mask"] = torch.ones(side, side).tril().view(1, 1, side, side)
    return state


def easynlp_config(gpt: GPTConfig = GPT_TINY) -> dict[str, Any]:
    """EasyNLP's config.json."""
    return {
        "model_type": "artist",
        "easynlp_version": "0.0.3",
        "vocab_size": gpt.vocab_size,
        "img_vocab_size": gpt.codebook_size,
        "text_vocab_size": gpt.text_vocab_size,
        "block_size": gpt.block_size,
        "n_layer": gpt.n_layer,
        "n_head": gpt.n_head,
        "n_embd": gpt.n_embd,
        "embd_pdrop": 0.0,
        "n_unmasked": 0,
    }


def write_easynlp(
    directory: Path, vqgan: VQGANConfig = VQGAN_TINY, gpt: GPTConfig = GPT_TINY, **changed: Any
) -> Path:
    """An EasyNLP directory; `changed` replaces state, config or vocab (None leaves the file out)."""
    directory.mkdir(parents=True)
    parts = {"state": easynlp_state, "config": easynlp_config, "vocab": vocab}
    arguments = {"state": (vqgan, gpt), "config": (gpt,), "vocab": (gpt.text_vocab_size,)}
    made = {name: changed[name] if name in changed else parts[name](*arguments[name]) for name in parts}
    torch.save(made["state"], directory / "pytorch_model.bin")
    (directory / "config.json").write_text(json.dumps(made["config"]))
    if made["vocab"] is not None:
        (directory / "vocab.txt").write_text("\n".join(made["vocab"]) + "\n")
    return directory


def taming_yaml(vqgan: VQGANConfig = VQGAN_TINY) -> str:
    """The YAML that taming-transformers keeps with a VQGAN."""
    return f"""model:
  base_learning_rate: 4.5e-06
  target: taming.models.vqgan.VQModel
  params:
    embed_dim: {vqgan.embed_dim}
    n_embed: {vqgan.codebook_size}
    ddconfig:
      double_z: false
      z_channels: {vqgan.z_channels}
      resolution: {vqgan.image_size}
      in_channels: 3
      out_ch: 3
      ch: {vqgan.ch}
      ch_mult: {list(vqgan.ch_mult)}
      num_res_blocks: {vqgan.num_res_blocks}
      attn_resolutions: [{vqgan.image_size // 2 ** (len(vqgan.ch_mult) - 1)}, 4]
      dropout: 0.0
    lossconfig:
      target: taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator
"""


OPTIONS_TINY = ConvertOptions(image_size=32)


def converted(
    source: Path, target: Path, options: ConvertOptions = OPTIONS_TINY, vqgan: str | None = None
) -> list[str]:
    """Converts a checkpoint as jobs/convert_checkpoint.py does, and returns the report."""
    return convert(ConvertConfig(source=str(source), outputs=str(target), vqgan=vqgan, options=options))


def same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Asserts equal names, types and bits."""
    assert sorted(actual) == sorted(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert torch.equal(actual[name], tensor), name
