"""Model directories: what a job reads as a model and what training writes.

    config.json          {"format": 1, "vqgan": {...}, "gpt": {...}, "text": {...}}; a VQGAN alone has only "vqgan"
    vqgan.safetensors    gpt.safetensors    vocab.txt | tokenizer.json    README.md
    training/            in training checkpoints only

Weights are float32 under the published state-dict names, or float16 / bfloat16 that is widened on loading. Names and
shapes are compared with config.json before a tensor is read.
"""

import dataclasses
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.storage import file_sha256, filesystem, is_local
from painter_core.tokenizer import Tokenizer, load_tokenizer

FORMAT = 1
BUNDLED = Path(__file__).parent / "bundled"
MAX_HEADER_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class ModelDirectory:
    """A model directory whose config.json was read and checked."""

    path: Path
    vqgan: VQGANConfig | None
    gpt: GPTConfig | None

    def load_vqgan(self) -> VQGAN:
        """The VQGAN on the CPU, in eval mode."""
        if self.vqgan is None:
            raise ValueError(f'{self.path}: config.json has no "vqgan"; this directory holds no VQGAN')
        return _load(VQGAN, self.vqgan, self.path / "vqgan.safetensors")

    def load_gpt(self) -> GPT:
        """The GPT on the CPU, in eval mode."""
        if self.gpt is None:
            raise ValueError(
                f'{self.path}: config.json has no "gpt"; give a directory that jobs/train.py wrote'
            )
        return _load(GPT, self.gpt, self.path / "gpt.safetensors")

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer, checked against the GPT's text_vocab_size."""
        tokenizer = load_tokenizer(self.path)
        if self.gpt is not None and tokenizer.vocab_size != self.gpt.text_vocab_size:
            raise ValueError(
                f"{self.path / tokenizer.file_name}: {tokenizer.vocab_size} tokens, but config.json says "
                f"gpt.text_vocab_size {self.gpt.text_vocab_size}: it belongs to another model"
            )
        return tokenizer

    def vqgan_sha256(self) -> str:
        """Of vqgan.safetensors."""
        return file_sha256(self.path / "vqgan.safetensors")

    def gpt_sha256(self) -> str:
        """Of gpt.safetensors."""
        return file_sha256(self.path / "gpt.safetensors")


def open_model(name: str) -> ModelDirectory:
    """Opens a model directory.

    Args:
        name: a directory by path or URL (a URL is copied to a temporary directory), `bundled`, or a directory that
            jobs/train.py wrote (its best/ is taken).

    Raises:
        ValueError: no model directory, or a config.json that does not fit.
    """
    if name == "bundled":
        path = BUNDLED
    elif is_local(name):
        path = Path(filesystem(name)[1])
    else:
        path = _download(name)
    if not (path / "config.json").is_file() and (path / "best" / "config.json").is_file():
        path = path / "best"
    if not (path / "config.json").is_file():
        raise ValueError(f"{name}: no model directory (no config.json there)")
    return _read_config(path)


def _download(url: str) -> Path:
    fs, remote = filesystem(url)
    target = Path(tempfile.mkdtemp(prefix="painter-model-"))
    best = remote.rstrip("/") + "/best"
    if not fs.exists(remote.rstrip("/") + "/config.json") and fs.exists(best + "/config.json"):
        remote = best
    for name in ("config.json", "vqgan.safetensors", "gpt.safetensors", "vocab.txt", "tokenizer.json"):
        if fs.exists(f"{remote.rstrip('/')}/{name}"):
            fs.get_file(f"{remote.rstrip('/')}/{name}", str(target / name))
    return target


def _read_config(path: Path) -> ModelDirectory:
    file = path / "config.json"
    try:
        spec = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: not JSON: {error}") from None
    if spec.get("format") != FORMAT:
        hint = "; convert it first: jobs/convert_checkpoint.py" if "model_type" in spec else ""
        raise ValueError(f"{file}: format is {spec.get('format')!r}, expected {FORMAT}{hint}")
    if unknown := sorted(set(spec) - {"format", "vqgan", "gpt", "text"}):
        raise ValueError(f"{file}: unknown keys {unknown}")
    vqgan = _section(VQGANConfig, spec, "vqgan", file)
    gpt = _section(GPTConfig, spec, "gpt", file)
    if vqgan and gpt and (vqgan.codebook_size, vqgan.image_len) != (gpt.codebook_size, gpt.image_len):
        raise ValueError(
            f"{file}: the GPT writes {gpt.image_len} codes out of {gpt.codebook_size}, the VQGAN reads "
            f"{vqgan.image_len} out of {vqgan.codebook_size}"
        )
    return ModelDirectory(path=path, vqgan=vqgan, gpt=gpt)


def _section(kind: Any, spec: dict[str, Any], name: str, file: Path) -> Any:
    """A model's config dataclass from its section; None if there is none."""
    if name not in spec:
        return None
    known = {f.name for f in dataclasses.fields(kind)}
    if set(spec[name]) != known:
        missing, unknown = sorted(known - set(spec[name])), sorted(set(spec[name]) - known)
        raise ValueError(f"{file}: section {name!r} lacks {missing} and has unknown {unknown}")
    return kind(**spec[name])


def _load(kind: Any, config: Any, file: Path) -> Any:
    with torch.device("meta"):
        model = kind(config)
    expected = {k: list(t.shape) for k, t in model.state_dict().items()}
    check_safetensors(file, expected)
    model.to_empty(device="cpu")
    with safe_open(file, framework="pt") as tensors:
        # copying widens half-precision weights to the model's float32
        model.load_state_dict({k: tensors.get_tensor(k) for k in expected}, strict=True)
    return model.eval()


def check_safetensors(file: Path, expected: dict[str, list[int]]) -> None:
    """Compares a file's tensor names and shapes with the expected ones, reading only its header.

    Raises:
        ValueError: names what is missing, unexpected or misshapen, or says that the file is damaged.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    with file.open("rb") as raw:
        header_bytes = int.from_bytes(raw.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"{file}: header of {header_bytes:,} bytes; this is not a model of ours")
    try:
        with safe_open(file, framework="pt") as tensors:
            found = {k: list(tensors.get_slice(k).get_shape()) for k in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged ({error}); copy it again") from None
    compare_tensors(str(file), found, expected)


def compare_tensors(file: str, found: dict[str, list[int]], expected: dict[str, list[int]]) -> None:
    """Raises a ValueError that lists names (at most ten of a kind) unless both hold the same names and shapes."""
    problems = []
    for what, names in (
        ("missing", sorted(set(expected) - set(found))),
        ("unexpected", sorted(set(found) - set(expected))),
        (
            "misshapen",
            [f"{k} {found[k]} for {expected[k]}" for k in expected if k in found and found[k] != expected[k]],
        ),
    ):
        if names:
            problems.append(
                f"{len(names)} {what}: {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
            )
    if problems:
        raise ValueError(f"{file}: the tensors do not fit config.json; " + "; ".join(problems))


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
        source = open_model(str(vqgan))
        assert source.vqgan is not None
        spec["vqgan"] = dataclasses.asdict(source.vqgan)
        shutil.copyfile(source.path / "vqgan.safetensors", directory / "vqgan.safetensors")
    elif vqgan is not None:
        spec["vqgan"] = dataclasses.asdict(vqgan.config)
        save_weights(vqgan, directory / "vqgan.safetensors")
    if gpt is not None:
        spec["gpt"] = dataclasses.asdict(gpt.config)
        save_weights(gpt, directory / "gpt.safetensors")
    if tokenizer is not None:
        spec["text"] = {"tokenizer": tokenizer.file_name, "sha256": tokenizer.sha256}
        tokenizer.save(directory)
    (directory / "README.md").write_text(card)
    (directory / "config.json").write_text(json.dumps(spec, indent=1) + "\n")


def save_weights(model: nn.Module, file: Path) -> None:
    """The state dict as safetensors."""
    state = {k: t.detach().to("cpu").contiguous() for k, t in model.state_dict().items()}
    save_file(state, file)
