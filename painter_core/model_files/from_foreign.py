"""Foreign checkpoints -> our model directory (the way back: to_easynlp.py).

Sources: an EasyNLP directory (config.json with model_type "artist", or one of easynlp_captioner.py, weights,
vocab.txt); a VQGAN of one of
the families of families.py, as a file, an index of shards or a directory of these. Every tensor is mapped,
named as left out, or an error. The result is a function of the source's bytes and the options, to the last
byte.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from painter_core.files.cache import build_once
from painter_core.files.storage import file_sha256
from painter_core.flag_checks import check_range
from painter_core.model_files.checkpoint_file import INDEX, Checkpoint, find_weights
from painter_core.model_files.directory import ModelDirectory, write_model
from painter_core.model_files.easynlp_captioner import is_captioner, read_captioner
from painter_core.model_files.foreign import Foreign, read_foreign, wanted
from painter_core.model_files.foreign_alone import alone_geometry
from painter_core.model_files.foreign_config import config_file
from painter_core.model_files.foreign_geometry import easynlp_gpt, easynlp_image_size, vqgan_geometry
from painter_core.model_files.json_file import read_json_object
from painter_core.model_files.safetensors_file import compare_tensors
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.unfilled import unfilled
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.text.tokenizer import Tokenizer, load_tokenizer

log = logging.getLogger(__name__)

VERSION = 2  # of what is written for a given source; part of the cache's key


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What a checkpoint may not say about itself."""

    vocab: str | None = None
    """vocab.txt for a source that holds none."""
    n_head: int | None = None
    """Attention heads, where config.json does not say it; EasyNLP's default is 12."""
    image_size: int | None = None
    """Side of the pictures in pixels; by default as in the YAML beside a .ckpt, else 256, as in EasyNLP."""
    text_len: int | None = None
    """Text ids a sequence; by default what the codes of a picture leave of the positions."""
    quantizer: Literal["nearest", "dot"] | None = None
    """How a VQGAN makes codes, where neither its tensors nor a YAML tell: dot for IBQ, nearest for taming."""
    no_ema: bool = False
    """Take the weights themselves where there are averaged ones beside them."""

    def __post_init__(self) -> None:
        check_range("--n-head", self.n_head, 1, 256)
        check_range("--image-size", self.image_size, 1, 65536)
        check_range("--text-len", self.text_len, 1, 4096)


def converted(source: Path) -> Path:
    """The model directory of a foreign checkpoint, from the cache of this machine; made at the first call."""
    digest = hashlib.sha256(f"painter {VERSION}".encode())
    for file in _source_files(source):
        digest.update(f"\0{file.name}\0{file_sha256(file)}".encode())

    def build(directory: Path) -> None:
        for line in to_painter(source, directory, ConvertOptions()):
            log.info("convert: %s", line)

    return build_once(f"converted-{digest.hexdigest()[:32]}", build)


def _source_files(source: Path) -> list[Path]:
    """All files that the result depends on."""
    weights = _weights_file(source)
    names = ("config.json", "vocab.txt", "tokenizer_config.json") if source.is_dir() else ()
    beside = [source / name for name in names if (source / name).is_file()]
    if weights.name.endswith(INDEX):
        shards = Checkpoint(weights)
        beside += shards.files(wanted(shards.names))
    else:
        beside.append(weights)
    config = config_file(weights)
    return [*beside, config] if config else beside


def _weights_file(source: Path) -> Path:
    weights = find_weights(source) if source.is_dir() else source
    if not weights.is_file():
        raise ValueError(f"{weights}: no such file")
    return weights


def to_painter(
    source: Path, target: Path, options: ConvertOptions, vqgan: ModelDirectory | None = None
) -> list[str]:
    """Converts a foreign checkpoint.

    Args:
        source: an EasyNLP directory, or a file or directory that holds a VQGAN.
        target: an empty directory; not written atomically.
        vqgan: the VQGAN of a source that holds none.

    Returns:
        Lines that say what was mapped, left out and assumed.

    Raises:
        ValueError: lists what is missing, unexpected, misshapen or contradictory.
    """
    weights = _weights_file(source)
    spec = read_json_object(source / "config.json") if (source / "config.json").is_file() else {}
    with _about(source):
        captions = is_captioner(spec)
    foreign = read_foreign(weights, no_ema=options.no_ema)
    report = foreign.report
    gpt, tokenizer = None, None
    if source.is_dir() and (foreign.gpt or captions or spec.get("model_type") == "artist"):
        lengths: dict[str, Any] = {"n_head": options.n_head, "text_len": options.text_len, "report": report}
        with _about(source):
            vqgan_config = _easynlp_vqgan(foreign, options, vqgan)
            if captions:
                gpt_config, state = read_captioner(spec, foreign.gpt, vqgan_config, **lengths)
            else:
                state = foreign.gpt
                gpt_config = easynlp_gpt(spec, _shapes(state), vqgan_config, **lengths)
        tokenizer = _easynlp_tokenizer(source, gpt_config, options.vocab)
        gpt = _filled(GPT, gpt_config, state, weights)
        report += [str(gpt_config), f"{tokenizer.file_name}: {tokenizer.vocab_size:,} tokens, lower-cased"]
    else:
        vqgan_config = _alone(source, weights, foreign, options, spec, vqgan)
    if foreign.vqgan:
        written: VQGAN | Path = _filled(VQGAN, vqgan_config, foreign.vqgan.tensors, weights)
    else:
        assert vqgan is not None
        written = vqgan.path
    report.append(str(vqgan_config))
    write_model(target, vqgan=written, gpt=gpt, tokenizer=tokenizer, card=_card(source, report))
    return report


def _alone(
    source: Path,
    weights: Path,
    foreign: Foreign,
    options: ConvertOptions,
    spec: dict[str, Any],
    vqgan: ModelDirectory | None,
) -> VQGANConfig:
    """Geometry of a VQGAN without a GPT."""
    _refuse_gpt(source, foreign, options, vqgan)
    if foreign.vqgan is None:
        raise ValueError(f"{weights}: holds neither a VQGAN nor a GPT")
    with _about(source):
        return alone_geometry(
            weights,
            foreign.vqgan,
            image_size=options.image_size,
            quantizer=options.quantizer,
            is_janus=foreign.is_janus,
            spec=spec,
            report=foreign.report,
        )


def _refuse_gpt(
    source: Path, foreign: Foreign, options: ConvertOptions, vqgan: ModelDirectory | None
) -> None:
    if foreign.gpt:
        raise ValueError(
            f"{source}: holds a GPT; give the directory that holds its config.json and vocab.txt too"
        )
    given = {"vqgan": vqgan, "vocab": options.vocab, "n_head": options.n_head, "text_len": options.text_len}
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"--{name.replace('_', '-')}: means nothing for {source.name}, which is a VQGAN alone"
            )


def _easynlp_vqgan(foreign: Foreign, options: ConvertOptions, given: ModelDirectory | None) -> VQGANConfig:
    """Geometry of the VQGAN that goes with a GPT: its own, or --vqgan."""
    if options.quantizer is not None:
        raise ValueError(f"--quantizer {options.quantizer}: EasyNLP's VQGANs all take the nearest entry")
    if bool(foreign.vqgan) == (given is not None):
        has = "a VQGAN, which cannot be replaced" if foreign.vqgan else "no VQGAN (first_stage_model.*)"
        raise ValueError(f"--vqgan: {'given' if given else 'not given'}, but the checkpoint holds {has}")
    if given is None:
        assert foreign.vqgan is not None
        shapes = foreign.vqgan.shapes
        size = easynlp_image_size(
            shapes,
            _shapes(foreign.gpt),
            image_size=options.image_size,
            text_len=options.text_len,
            report=foreign.report,
        )
        return vqgan_geometry(shapes, size, foreign.vqgan.family.quantizer or "nearest")
    if given.vqgan_config is None:
        raise ValueError(f"--vqgan {given.path}: holds no VQGAN")
    if options.image_size not in (None, given.vqgan_config.image_size):
        raise ValueError(
            f"--image-size {options.image_size}: --vqgan {given.path} is for {given.vqgan_config.image_size}"
        )
    foreign.report.append("the VQGAN is the one of --vqgan: the checkpoint holds none")
    return given.vqgan_config


def _easynlp_tokenizer(source: Path, gpt: GPTConfig, vocab: str | None) -> Tokenizer:
    own = source / "vocab.txt"
    if own.is_file() == (vocab is not None):
        raise ValueError(f"--vocab: got {vocab}, but {source} has {'a' if own.is_file() else 'no'} vocab.txt")
    settings = source / "tokenizer_config.json"
    if settings.is_file():
        spec = read_json_object(settings)
        for name in ("do_lower_case", "tokenize_chinese_chars"):
            if spec.get(name) is False:
                raise ValueError(
                    f"{settings}: {name} is false, which is not supported: text would become other ids"
                )
    tokenizer = load_tokenizer(vocab or own)
    if tokenizer.vocab_size != gpt.text_vocab_size:
        raise ValueError(
            f"{vocab or own}: {tokenizer.vocab_size} tokens, but the tensors say {gpt.text_vocab_size}: it "
            "belongs to another model"
        )
    return tokenizer


def _filled(kind: Any, config: Any, state: dict[str, Tensor], file: Path) -> Any:
    """A module whose parameters are the given tensors, not copied."""
    model = unfilled(kind, config)
    compare_tensors(str(file), _shapes(state), _shapes(model.state_dict()), str(config))
    model.load_state_dict(state, strict=True, assign=True)
    return model


def _shapes(state: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in state.items()}


@contextmanager
def _about(source: Path) -> Iterator[None]:
    """Puts the source's name before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _card(source: Path, report: list[str]) -> str:
    lines = [f"- {file.name}: sha256 {file_sha256(file)}" for file in _source_files(source)]
    return "\n".join(["# Converted checkpoint", "", *lines, *(f"- {line}" for line in report), ""])
