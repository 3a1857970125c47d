"""Networks that judge, with weights made by a formula: the files that a user would have."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from painter_core.models.chinese_clip import ChineseCLIP, ChineseCLIPConfig, TowerConfig
from painter_core.models.inception import Inception
from painter_core.models.unfilled import unfilled
from tests.golden.formula import fill, image

GAIN = 1.1  # of convolutions: features come out about 1, as those of the real weights
TINY_CLIP = ChineseCLIPConfig(
    vision=TowerConfig(
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
    ),
    text=TowerConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=1,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
    ),
    image_size=32,
    patch_size=8,
    vocab_size=60,
    max_position_embeddings=64,
    type_vocab_size=2,
    projection_dim=24,
)
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "evaluation.npz"
CAPTIONS = "红黄蓝绿黑白灰紫的大小中号格纹条点背景底色款包鞋帽衣裤裙袜,、 "


def golden_values() -> dict[str, np.ndarray]:
    """What torch-fidelity and transformers computed (tests/golden/make_evaluation.py)."""
    with np.load(GOLDEN) as archive:
        return {name: archive[name] for name in archive.files}


def inception_state() -> dict[str, Tensor]:
    """All tensors of the file, counters of the batch norms too; the dict may be changed, the tensors not."""
    return dict(_inception_state())


@cache
def _inception_state() -> dict[str, Tensor]:
    state = {}
    shapes = {name: tuple(t.shape) for name, t in unfilled(Inception).state_dict().items()}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        values = fill(name, shape)
        if name.endswith("running_var"):
            values = np.abs(values) + np.float32(0.5)
        elif name.endswith("running_mean"):
            values = np.zeros(shape, np.float32)
        elif name.endswith("conv.weight"):
            values = values * np.float32(GAIN)
        elif name == "fc.weight":
            values = values * np.float32(4)  # so that pictures differ in their classes
        state[name] = torch.from_numpy(values)
    return state


def clip_state(config: ChineseCLIPConfig = TINY_CLIP) -> dict[str, Tensor]:
    """Tensors under transformers' names."""
    shapes = {name: tuple(t.shape) for name, t in unfilled(ChineseCLIP, config).state_dict().items()}
    return {name: torch.from_numpy(np.asarray(fill(name, shape))) for name, shape in shapes.items()}


def clip_vocab() -> str:
    """vocab.txt of the tiny CLIP: BERT's special tokens and some Hanzi."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CAPTIONS.replace(" ", ""))]
    tokens += [chr(0x4E00 + i) for i in range(TINY_CLIP.vocab_size)]
    return "\n".join(tokens[: TINY_CLIP.vocab_size]) + "\n"


def picture(index: int, side: int = 64) -> np.ndarray:
    """uint8 (side, side, 3): waves, noise, stripes or one colour, so that pictures differ for a network."""
    random = np.random.RandomState(2000 + index)
    if index % 4 == 0:
        return image(index, side)
    if index % 4 == 1:
        return random.randint(0, 256, (side, side, 3)).astype(np.uint8)
    if index % 4 == 2:
        stripes = (np.arange(side) // random.randint(1, 8) % 2 * 255).astype(np.uint8)
        return np.broadcast_to(stripes[:, None, None], (side, side, 3)).copy()
    return np.broadcast_to(random.randint(0, 256, 3).astype(np.uint8), (side, side, 3)).copy()


def write_clip(directory: Path) -> Path:
    """The tiny CLIP as transformers writes it."""
    text, vision = (
        {name: getattr(tower, name) for name in tower.__dataclass_fields__}
        for tower in (TINY_CLIP.text, TINY_CLIP.vision)
    )
    text |= {n: getattr(TINY_CLIP, n) for n in ("vocab_size", "max_position_embeddings", "type_vocab_size")}
    vision |= {n: getattr(TINY_CLIP, n) for n in ("image_size", "patch_size")}
    spec = {"model_type": "chinese_clip", "projection_dim": TINY_CLIP.projection_dim}
    spec |= {"text_config": text, "vision_config": vision}
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(spec))
    (directory / "vocab.txt").write_text(clip_vocab(), encoding="utf-8")
    save_file(clip_state(), directory / "model.safetensors")
    return directory
