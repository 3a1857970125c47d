"""Foreign checkpoints -> a model directory, a model directory -> EasyNLP, and the list of named models.

cn_clip's files become a directory for jobs/evaluate.py --clip.
"""

import logging
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from painter_core.errors import Refused
from painter_core.files.cache import cache_root, sync_files
from painter_core.files.storage import filesystem, full_disk_named, is_local, redact
from painter_core.flag_checks import refuse_unused
from painter_core.model_files import zoo
from painter_core.model_files.adapter import merge_adapter
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.from_cn_clip import is_cn_clip, to_transformers
from painter_core.model_files.from_foreign import ConvertOptions, to_painter
from painter_core.model_files.open import local_path, open_model
from painter_core.model_files.to_easynlp import to_easynlp
from painter_core.model_files.zoo_places import EASYNLP_REGISTRY
from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.text.tokenizer import load_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Foreign checkpoint -> model directory, or a model directory -> EasyNLP."""

    source: str | None = None
    """What to convert: an EasyNLP directory; a VQGAN of taming-transformers, LDM, LlamaGen, Janus, IBQ,
    Chameleon or diffusers, as a file, an index of shards or a directory; a name, hf://OWNER/NAME or
    modelscope://OWNER/NAME; a .pt of cn_clip; or (with --to easynlp) a model directory."""
    outputs: str | None = None
    """Directory to write; must not exist."""
    to: Literal["painter", "easynlp"] = "painter"
    """Format to write."""
    vqgan: str | None = None
    """VQGAN for a source that holds none: anything that --source may be, or `bundled`."""
    adapter: str | None = None
    """An adapter.safetensors (train.py --lora-rank), to be merged into the model directory --source."""
    options: ConvertOptions = field(default_factory=ConvertOptions)
    list: bool = False
    """Show the models that have names, what they are and what is in the cache; convert nothing."""

    def __post_init__(self) -> None:
        if self.list:
            sources = ("source", "outputs", "to", "vqgan", "adapter")
            refuse_unused(self, sources, "beside --list, which converts nothing")
        elif self.source is None or self.outputs is None:
            raise ValueError("--source and --outputs: both are needed, or --list alone")
        elif self.adapter is not None:
            refuse_unused(self, ("to", "vqgan", "options"), "beside --adapter, which is merged into a model")

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {"--source": self.source, "--outputs": self.outputs, "--adapter": self.adapter}


def convert_checkpoint(config: ConvertConfig, run: Run) -> None:
    """Writes --outputs, whole or not at all; or shows the list of models.

    Raises:
        Refused: --outputs exists.
        ValueError: the source or a flag is wrong; nothing was written.
    """
    for line in list_models() if config.list else convert(config):
        log.info("%s", line)
    if config.outputs is None:
        run.then(next_step("convert_checkpoint", made="list"))
        return
    log.info("wrote %s", config.outputs)
    run.then(next_step("convert_checkpoint", config.outputs, made=_made(config)))


def _made(config: ConvertConfig) -> str:
    """What was written, as next_step() calls it."""
    if config.to == "easynlp":
        return "easynlp"
    if is_cn_clip(Path(str(config.source))):
        return "clip"
    return "" if open_model(str(config.outputs)).gpt_config is not None else "vqgan"


def convert(config: ConvertConfig) -> list[str]:
    """Converts, and returns the report."""
    assert config.source is not None
    assert config.outputs is not None
    if not is_local(config.outputs):
        raise ValueError(f"--outputs {redact(config.outputs)}: a directory of this machine is needed, no URL")
    target = Path(filesystem(config.outputs)[1])
    if target.exists():
        raise Refused(f"--outputs {target}: exists; name another directory, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir()
        vqgan = open_model(config.vqgan) if config.vqgan else None
        with full_disk_named(temporary):
            if config.adapter is not None:
                report = merge_adapter(open_model(config.source), Path(config.adapter), temporary)
            elif config.to == "painter" and is_cn_clip(Path(config.source)):
                report = _clip(config, temporary)
            elif config.to == "painter":
                report = to_painter(local_path(config.source), temporary, config.options, vqgan)
            else:
                report = _to_easynlp(open_model(config.source), temporary, config.options, vqgan)
        sync_files(temporary)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [*report, f"wrote {config.outputs}"]


def list_models() -> list[str]:
    """A line a model: its name, what it is, and where the copy in the cache is from."""
    lines = []
    for entry in zoo.listing():
        pin = entry.pin
        state = f"in the cache, from {pin.archive}, sha256 {pin.sha256[:16]}" if pin else "not in the cache"
        lines.append(f"{entry.name}  {entry.about}; {state}")
    return [
        *lines,
        f"the cache is {cache_root() / 'zoo'}; names are looked up where PAINTER_ZOO says, else in "
        f"{EASYNLP_REGISTRY}",
    ]


def _clip(config: ConvertConfig, target: Path) -> list[str]:
    options = config.options
    if (config.vqgan, options.n_head, options.image_size, options.text_len) != (None, None, None, None):
        raise ValueError("--vqgan, --n-head, --image-size, --text-len: mean nothing for a Chinese CLIP")
    return to_transformers(Path(str(config.source)), target, options.vocab)


def _to_easynlp(
    model: ModelDirectory, target: Path, options: ConvertOptions, vqgan: ModelDirectory | None
) -> list[str]:
    if options != ConvertOptions(vocab=options.vocab):
        raise ValueError(
            "--n-head, --image-size, --text-len, --quantizer, --no-ema: a model directory says these itself"
        )
    tokenizer = load_tokenizer(options.vocab) if options.vocab else None
    return to_easynlp(model, target, vqgan=vqgan, tokenizer=tokenizer)
