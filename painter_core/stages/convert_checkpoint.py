"""Checkpoints of EasyNLP and taming-transformers -> a model directory, and a model directory -> EasyNLP;
cn_clip's -> a directory for jobs/evaluate.py --clip."""

import logging
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from painter_core.errors import Refused
from painter_core.files.cache import sync_files
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.from_cn_clip import is_cn_clip, to_transformers
from painter_core.model_files.from_foreign import ConvertOptions, to_painter
from painter_core.model_files.open import open_model
from painter_core.model_files.to_easynlp import to_easynlp
from painter_core.runs.run import Run
from painter_core.text.tokenizer import load_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """EasyNLP or taming checkpoint -> model directory, or back; cn_clip .pt -> transformers' directory."""

    source: str
    """EasyNLP directory, taming .ckpt, flat .bin, cn_clip .pt, or (with --to easynlp) a model directory."""
    outputs: str
    """Directory to write; must not exist."""
    to: Literal["painter", "easynlp"] = "painter"
    """Format to write."""
    vqgan: str | None = None
    """VQGAN for a source that holds none: a model directory, a taming .ckpt or .bin, or `bundled`."""
    options: ConvertOptions = field(default_factory=ConvertOptions)

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {"--source": self.source, "--outputs": self.outputs}


def convert_checkpoint(config: ConvertConfig, run: Run) -> None:
    """Writes --outputs, whole or not at all.

    Raises:
        Refused: --outputs exists.
        ValueError: the source or a flag is wrong; nothing was written.
    """
    for line in convert(config):
        log.info("%s", line)
    log.info("wrote %s", config.outputs)


def convert(config: ConvertConfig) -> list[str]:
    """Converts, and returns the report."""
    target = Path(config.outputs)
    if target.exists():
        raise Refused(f"--outputs {target}: exists; name another directory, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir()
        vqgan = open_model(config.vqgan) if config.vqgan else None
        if config.to == "painter" and is_cn_clip(Path(config.source)):
            report = _clip(config, temporary)
        elif config.to == "painter":
            report = to_painter(Path(config.source), temporary, config.options, vqgan)
        else:
            report = _to_easynlp(open_model(config.source), temporary, config.options, vqgan)
        sync_files(temporary)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return report


def _clip(config: ConvertConfig, target: Path) -> list[str]:
    options = config.options
    if (config.vqgan, options.n_head, options.image_size, options.text_len) != (None, None, None, None):
        raise ValueError("--vqgan, --n-head, --image-size, --text-len: mean nothing for a Chinese CLIP")
    return to_transformers(Path(config.source), target, options.vocab)


def _to_easynlp(
    model: ModelDirectory, target: Path, options: ConvertOptions, vqgan: ModelDirectory | None
) -> list[str]:
    if (options.n_head, options.image_size, options.text_len) != (None, None, None):
        raise ValueError("--n-head, --image-size, --text-len: a model directory says these itself")
    tokenizer = load_tokenizer(options.vocab) if options.vocab else None
    return to_easynlp(model, target, vqgan=vqgan, tokenizer=tokenizer)
