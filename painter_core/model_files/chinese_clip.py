"""A user's Chinese CLIP: a directory in transformers' format, opened without transformers.

    config.json                             model_type "chinese_clip"
    model.safetensors | pytorch_model.bin   tensors under ChineseCLIPModel's names
    vocab.txt | tokenizer.json              BERT's

A .pt of cn_clip is brought into this form by jobs/convert_checkpoint.py (from_cn_clip.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from painter_core.files.storage import file_sha256
from painter_core.model_files.json_file import read_json_object
from painter_core.model_files.safetensors_file import compare_tensors
from painter_core.model_files.weights_file import check_finite, read_weights
from painter_core.models.chinese_clip import ChineseCLIP, ChineseCLIPConfig, TowerConfig
from painter_core.models.unfilled import unfilled
from painter_core.text.tokenizer import Tokenizer, load_tokenizer

MODEL_TYPE = "chinese_clip"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# what transformers takes where a config.json says nothing
TEXT = {
    "vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}  # fmt: skip
VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
FIXED = {
    "position_embedding_type": "absolute",
    "num_channels": 3,
    "pad_token_id": 0,
}  # as the module has them


@dataclass(frozen=True, kw_only=True)
class ClipDirectory:
    """A directory whose config.json was read and checked."""

    path: Path
    config: ChineseCLIPConfig
    weights: Path

    def load(self) -> ChineseCLIP:
        """The model on the CPU, in float32.

        Raises:
            ValueError: a tensor is missing, unknown, of another shape or not finite.
        """
        given = read_weights(self.weights)
        # buffers that older releases of transformers wrote: 0, 1, 2, ...
        state = {name: tensor for name, tensor in given.items() if not name.endswith(".position_ids")}
        model = unfilled(ChineseCLIP, self.config)
        found, expected = ({k: list(t.shape) for k, t in s.items()} for s in (state, model.state_dict()))
        compare_tensors(str(self.weights), found, expected)
        check_finite(str(self.weights), state)
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
        return model.requires_grad_(False).eval()

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer, checked against the model's vocab_size."""
        tokenizer = load_tokenizer(self.path)
        if tokenizer.vocab_size != self.config.vocab_size:
            raise ValueError(
                f"{self.path / tokenizer.file_name}: {tokenizer.vocab_size} tokens, but config.json says "
                f"text_config.vocab_size {self.config.vocab_size}: it belongs to another model"
            )
        return tokenizer

    def sha256(self) -> str:
        """sha256 of the weights' file."""
        return file_sha256(self.weights)


def open_clip(name: str) -> ClipDirectory:
    """Opens a Chinese CLIP.

    Raises:
        ValueError: there is none, or one that does not fit its config.json.
    """
    path = Path(name)
    if path.is_file():
        raise ValueError(
            f"{name}: a file; of cn_clip's .pt make a directory first: python jobs/convert_checkpoint.py "
            f"--source {name} --vocab vocab.txt --outputs DIR"
        )
    if not (path / "config.json").is_file():
        raise ValueError(f"{name}: no directory of a Chinese CLIP (no config.json there)")
    config = read_config(path / "config.json")
    weights = next((path / n for n in WEIGHTS if (path / n).is_file()), None)
    if weights is None:
        raise ValueError(f"{name}: no {' and no '.join(WEIGHTS)}; weights in several files are not read")
    return ClipDirectory(path=path, config=config, weights=weights)


def read_config(file: Path) -> ChineseCLIPConfig:
    """Geometry from transformers' config.json.

    Raises:
        ValueError: it is another model's, or holds something that the module does not know.
    """
    spec = read_json_object(file)
    if spec.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"{file}: model_type is {spec.get('model_type')!r}, expected {MODEL_TYPE!r}, as of "
            "OFA-Sys/chinese-clip-vit-base-patch16"
        )
    text, vision = (_section(file, spec, *s) for s in (("text_config", TEXT), ("vision_config", VISION)))
    projection_dim = spec.get("projection_dim", 512)
    if type(projection_dim) is not int or projection_dim < 1:
        raise ValueError(f"{file}: projection_dim is {projection_dim!r}, expected a whole number above 0")
    try:
        return ChineseCLIPConfig(
            vision=_tower(vision),
            text=_tower(text),
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            vocab_size=text["vocab_size"],
            max_position_embeddings=text["max_position_embeddings"],
            type_vocab_size=text["type_vocab_size"],
            projection_dim=projection_dim,
        )
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _section(file: Path, spec: dict[str, Any], name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    given = spec.get(name) or {}
    if not isinstance(given, dict):
        raise ValueError(f"{file}: {name} is {given!r}, expected an object")
    for key, value in FIXED.items():
        if given.get(key, value) != value:
            raise ValueError(f"{file}: {name}.{key} is {given[key]!r}, only {value!r} is supported")
    found = {key: given.get(key, value) for key, value in defaults.items()}
    for key, value in found.items():
        if type(value) not in ((float, int) if key == "layer_norm_eps" else (type(defaults[key]),)):
            raise ValueError(f"{file}: {name}.{key} is {value!r}, expected a {type(defaults[key]).__name__}")
    if found["hidden_act"] not in ("gelu", "quick_gelu"):
        raise ValueError(f"{file}: {name}.hidden_act is {found['hidden_act']!r}, expected gelu or quick_gelu")
    return found


def _tower(section: dict[str, Any]) -> TowerConfig:
    return TowerConfig(**{name: section[name] for name in TowerConfig.__dataclass_fields__})
