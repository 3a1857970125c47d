"""Model directories: what a job reads as a model and what training writes.

    config.json          {"format": 1, "vqgan": {...}, "gpt": {...}, "text": {...}}; a VQGAN alone: "vqgan"
    vqgan.safetensors    gpt.safetensors    vocab.txt | tokenizer.json    README.md
    text_head.safetensors   of a GPT that captions: gpt.directions in config.json says so
    checkpoint.json      sha256 of these files, compared on loading (painter_core.model_files.sums)
    training/            in training checkpoints only

Checkpoint are float32 under the published state-dict names, or narrower floats that are widened on loading.
Names and shapes are compared with config.json before a tensor is read.

The same tensors make other codes with another quantizer. So a quantizer that is not the nearest entry is
named in config.json and in the metadata of vqgan.safetensors: its sha256 tells such models apart.

The head over the text ids stands in a file of its own, since painting does not depend on it: gpt.safetensors,
whose sha256 names what paints, is the same with and without it.
"""

import dataclasses
import hashlib
import json
import math
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from painter_core.model_files.finite import is_finite
from painter_core.model_files.json_file import read_json_object
from painter_core.model_files.safetensors_file import check_safetensors, read_metadata
from painter_core.model_files.sums import checked_sha256, write_sums
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.unfilled import unfilled
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.text.tokenizer import Tokenizer, load_tokenizer

FORMAT = 1
DECODER = ("decoder.", "post_quant_conv.")  # tensors of a VQGAN that codes do not depend on
TEXT_HEAD_FILE, TEXT_HEAD = "text_head.safetensors", "text_head."  # a file, and the tensors that it holds
# keys of a section that may be absent; their defaults are what was before them
OPTIONAL = ("quantizer", "directions")


@dataclass(frozen=True, kw_only=True)
class ModelDirectory:
    """A model directory whose config.json was read and checked."""

    path: Path
    vqgan_config: VQGANConfig | None
    gpt_config: GPTConfig | None
    text_sha256: str | None = None
    """sha256 of the tokenizer that the GPT was trained with, where config.json states it."""

    def check_weights(self) -> None:
        """Compares names and shapes of all weights with config.json; reads only headers.

        Raises:
            ValueError: they do not fit, or a file is damaged or missing.
        """
        for kind, config, name in ((VQGAN, self.vqgan_config, "vqgan"), (GPT, self.gpt_config, "gpt")):
            if config is not None:
                for file, shapes in _files(_shapes(kind, config), f"{name}.safetensors").items():
                    check_safetensors(self.path / file, shapes)
        if self.vqgan_config is not None:
            _check_quantizer(self.path / "vqgan.safetensors", self.vqgan_config)

    def require_vqgan(self) -> VQGANConfig:
        """The VQGAN's config; ValueError if there is no VQGAN."""
        if self.vqgan_config is None:
            raise ValueError(f'{self.path}: config.json has no "vqgan"; this directory holds no VQGAN')
        return self.vqgan_config

    def require_gpt(self) -> GPTConfig:
        """The GPT's config; ValueError if there is no GPT."""
        if self.gpt_config is None:
            raise ValueError(
                f'{self.path}: config.json has no "gpt"; give a directory that jobs/train.py wrote'
            )
        return self.gpt_config

    def load_vqgan(self) -> VQGAN:
        """The VQGAN on the CPU, in eval mode."""
        config, file = self.require_vqgan(), self.path / "vqgan.safetensors"
        model: VQGAN = _load(VQGAN, config, file)
        _check_quantizer(file, config)
        return model

    def load_gpt(self) -> GPT:
        """The GPT on the CPU, in eval mode."""
        return _load(GPT, self.require_gpt(), self.path / "gpt.safetensors")

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer, checked against the GPT's text_vocab_size."""
        tokenizer = load_tokenizer(self.path)
        if self.gpt_config is not None and tokenizer.vocab_size != self.gpt_config.text_vocab_size:
            raise ValueError(
                f"{self.path / tokenizer.file_name}: {tokenizer.vocab_size} tokens, but config.json says "
                f"gpt.text_vocab_size {self.gpt_config.text_vocab_size}: it belongs to another model"
            )
        if self.text_sha256 not in (None, tokenizer.sha256):
            raise ValueError(
                f"{self.path / tokenizer.file_name}: sha256 {tokenizer.sha256[:16]}, but config.json says "
                f"{str(self.text_sha256)[:16]}: the GPT was trained with another vocabulary"
            )
        return tokenizer

    def vqgan_sha256(self) -> str:
        """Hex sha256 of vqgan.safetensors."""
        return checked_sha256(self.path / "vqgan.safetensors")

    def codes_sha256(self) -> str:
        """Hex sha256 of what makes the codes: the VQGAN, widened to float32, without its decoder."""
        vqgan = self.load_vqgan()
        digest = hashlib.sha256()
        if vqgan.quantize.form != "nearest":
            digest.update(vqgan.quantize.form.encode())
        for name, tensor in sorted(vqgan.state_dict().items()):
            if not name.startswith(DECODER):
                digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    def gpt_sha256(self) -> str:
        """Hex sha256 of gpt.safetensors: of all that paints."""
        return checked_sha256(self.path / "gpt.safetensors")

    def text_head_sha256(self) -> str:
        """Hex sha256 of text_head.safetensors, which captions beside what gpt_sha256 names."""
        return checked_sha256(self.path / TEXT_HEAD_FILE)


def read_directory(path: Path) -> ModelDirectory:
    file = path / "config.json"
    spec = read_json_object(file)
    if spec.get("format") != FORMAT:
        raise ValueError(f"{file}: format is {spec.get('format')!r}, expected {FORMAT}")
    if unknown := sorted(set(spec) - {"format", "vqgan", "gpt", "text"}):
        raise ValueError(f"{file}: unknown keys {unknown}")
    vqgan = _section(VQGANConfig, spec, "vqgan", file)
    gpt = _section(GPTConfig, spec, "gpt", file)
    if vqgan and gpt and (vqgan.codebook_size, vqgan.image_len) != (gpt.codebook_size, gpt.image_len):
        raise ValueError(
            f"{file}: the GPT writes {gpt.image_len} codes out of {gpt.codebook_size}, the VQGAN reads "
            f"{vqgan.image_len} out of {vqgan.codebook_size}"
        )
    text = spec.get("text")
    if text is not None and not (isinstance(text, dict) and isinstance(text.get("sha256"), str)):
        raise ValueError(f"{file}: section 'text' is {text!r}, expected a tokenizer and its sha256")
    return ModelDirectory(
        path=path, vqgan_config=vqgan, gpt_config=gpt, text_sha256=text["sha256"] if text else None
    )


def _section(kind: Any, spec: dict[str, Any], name: str, file: Path) -> Any:
    """A model's config dataclass from its section; None if there is none."""
    if name not in spec:
        return None
    section, known = spec[name], {f.name: f.default for f in dataclasses.fields(kind)}
    needed = set(known) - set(OPTIONAL)
    if not isinstance(section, dict) or not needed <= set(section) <= set(known):
        missing, unknown = sorted(needed - set(section)), sorted(set(section) - set(known))
        raise ValueError(f"{file}: section {name!r} lacks {missing} and has unknown {unknown}")
    for key in needed:
        value = section[key]
        numbers = value if isinstance(known[key], tuple) else [value]
        if not isinstance(numbers, list) or not all(type(n) is int for n in numbers):
            raise ValueError(f"{file}: {name}.{key} is {value!r}, expected whole numbers")
    return kind(**section)


def _load(kind: Any, config: Any, file: Path) -> Any:
    model = unfilled(kind, config).to_empty(device="cpu")
    state: dict[str, Tensor] = {}
    for part, shapes in _files(_shapes(kind, config), file.name).items():
        check_safetensors(file.parent / part, shapes)
        checked_sha256(file.parent / part)
        with safe_open(file.parent / part, framework="pt") as tensors:
            state |= {k: tensors.get_tensor(k) for k in shapes}
    # copying widens half-precision weights to the model's float32
    model.load_state_dict(state, strict=True)
    if name := _not_finite(model.state_dict()):
        raise ValueError(
            f"{file}: {name} holds NaN or infinity, so the model computes nothing; copy it again, or take an "
            "earlier checkpoint"
        )
    return model.eval()


def _files(shapes: dict[str, Any], file: str) -> dict[str, dict[str, Any]]:
    """The tensors of a model by the file that they stand in."""
    found: dict[str, dict[str, Any]] = {file: {}}
    for name in shapes:
        found.setdefault(TEXT_HEAD_FILE if name.startswith(TEXT_HEAD) else file, {})[name] = shapes[name]
    return found


def _check_quantizer(file: Path, config: VQGANConfig) -> None:
    """Raises ValueError if the weights were written for another quantizer than config.json names."""
    written = read_metadata(file).get("quantizer", "nearest")
    if written != config.quantizer:
        raise ValueError(
            f"{file}: its weights are of the quantizer {written!r}, but config.json says "
            f"{config.quantizer!r}, with which they make other codes; copy the directory again"
        )


def _not_finite(state: dict[str, Tensor]) -> str | None:
    """The name of a tensor that holds NaN or infinity."""
    return next((k for k, t in state.items() if not is_finite(t)), None)


@cache  # a job asks several times for the same
def _shapes(kind: Any, config: Any) -> dict[str, list[int]]:
    """The shapes of a model's weights by name; not to be changed."""
    return {k: list(t.shape) for k, t in unfilled(kind, config).state_dict().items()}


def weights_bytes(kind: Any, config: Any) -> int:
    """Size of a model's weights in float32."""
    return 4 * sum(math.prod(shape) for shape in _shapes(kind, config).values())


def write_model(
    directory: Path,
    *,
    vqgan: VQGAN | Path | None = None,
    gpt: GPT | None = None,
    tokenizer: Tokenizer | None = None,
    card: str,
) -> None:
    """Writes a model directory (not atomically: write to a temporary directory and rename it).

    Args:
        vqgan: a module, or the path of a model directory whose VQGAN is copied as it is (same sha256).
        gpt: its config and, in float32, its weights.
        tokenizer: saved under its own file name.
        card: Markdown text of README.md.
    """
    directory.mkdir(parents=True, exist_ok=True)
    spec: dict[str, Any] = {"format": FORMAT}
    if isinstance(vqgan, Path):
        source = read_directory(vqgan)
        spec["vqgan"] = source.require_vqgan().to_json()
        shutil.copyfile(source.path / "vqgan.safetensors", directory / "vqgan.safetensors")
    elif vqgan is not None:
        spec["vqgan"] = vqgan.config.to_json()
        form = vqgan.config.quantizer
        save_weights(
            vqgan, directory / "vqgan.safetensors", None if form == "nearest" else {"quantizer": form}
        )
    if gpt is not None:
        spec["gpt"] = gpt.config.to_json()
        save_weights(gpt, directory / "gpt.safetensors")
    if tokenizer is not None:
        spec["text"] = {"tokenizer": tokenizer.file_name, "sha256": tokenizer.sha256}
        tokenizer.save(directory)
    (directory / "README.md").write_text(card)
    (directory / "config.json").write_text(json.dumps(spec, indent=1) + "\n")
    write_sums(directory)


def save_weights(model: nn.Module, file: Path, metadata: dict[str, str] | None = None) -> None:
    """The state dict as safetensors.

    Raises:
        RuntimeError: a weight is NaN or infinite. What was saved before is the last good state.
    """
    state = {k: t.detach().to("cpu").contiguous() for k, t in model.state_dict().items()}
    if name := _not_finite(state):
        raise RuntimeError(
            f"{name} holds NaN or infinity, so {file.name} is not written; lower --learning-rate"
        )
    for part, tensors in _files(state, file.name).items():
        _save(tensors, file.parent / part, metadata)


def _save(state: dict[str, Tensor], file: Path, metadata: dict[str, str] | None) -> None:
    file.touch()
    mode = file.stat().st_mode  # as the umask wants it; save_file would let nobody else read the file
    save_file(state, file, metadata)
    file.chmod(mode)
