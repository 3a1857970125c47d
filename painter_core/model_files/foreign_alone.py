"""A foreign VQGAN without EasyNLP's GPT: what its tensors do not tell, and where that is known from.

Two things are in no tensor: the side of the pictures, and for taming's names the quantizer. IBQ's tensors are
named and shaped as taming's, but make their codes by the product with an entry, not by the distance to it.
With the wrong one pictures are still painted, while most codes of pictures are wrong. So where the two cannot
be told apart nothing is assumed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from painter_core.model_files.foreign_config import ForeignConfig, check_diffusers, config_file, read_config
from painter_core.model_files.foreign_geometry import EASYNLP_IMAGE_SIZE, vqgan_geometry
from painter_core.model_files.foreign_vqgan import ForeignVQGAN
from painter_core.models.quantizer import QuantizerForm
from painter_core.models.vqgan import VQGANConfig

JANUS_IMAGE_SIZE = 384
IBQ_BLOCKS = (
    4  # residual blocks a level in all published IBQ; in all published VQGANs of taming and LDM it is 2
)


def alone_geometry(
    weights: Path,
    vqgan: ForeignVQGAN,
    *,
    image_size: int | None,
    quantizer: Literal["nearest", "dot"] | None,
    is_janus: bool,
    spec: Mapping[str, Any],
    report: list[str],
) -> VQGANConfig:
    """The geometry and quantizer of a VQGAN, compared with the config beside it if there is one.

    Args:
        weights: the file; a YAML is looked for beside it.
        image_size, quantizer: flags, None where not given.
        spec: config.json of its directory; empty if there is none.
        report: gets a line for everything that was assumed, with what says otherwise.

    Raises:
        ValueError: lists everything that contradicts, or says which flag is needed.
    """
    file = config_file(weights)
    config = read_config(file) if file else None
    form = _quantizer(vqgan, config, quantizer, report)
    side = config.sizes.get("image_size") if config else None
    if config:
        config.check(vqgan_geometry(vqgan.shapes, side or EASYNLP_IMAGE_SIZE, form))
        report.append(f"{config.file.name}: agrees with the tensors; its resolution is {side}")
    if "_class_name" in spec:
        side = check_diffusers(spec, "config.json")
    if image_size is None and side is None:
        side, whose = (JANUS_IMAGE_SIZE, "Janus'") if is_janus else (EASYNLP_IMAGE_SIZE, "the default")
        report.append(f"image_size {side}: {whose}, in no tensor and no config (other: --image-size)")
    return vqgan_geometry(vqgan.shapes, image_size or side or EASYNLP_IMAGE_SIZE, form)


def _quantizer(
    vqgan: ForeignVQGAN,
    config: ForeignConfig | None,
    flag: Literal["nearest", "dot"] | None,
    report: list[str],
) -> QuantizerForm:
    """How latents become codes; a line of the report says from where that is known."""
    said: list[tuple[QuantizerForm, str]] = []
    if vqgan.family.quantizer is not None:
        said.append((vqgan.family.quantizer, f"as in all models of {vqgan.family.title}"))
    if config is not None and config.quantizer is not None:
        said.append((config.quantizer, f"{config.file.name} names {config.target}"))
    if flag is not None:
        said.append((flag, "as --quantizer says"))
    form, why = said[0] if said else _by_its_traits(vqgan)
    for other, whose in said[1:]:
        if other != form:
            raise ValueError(f"quantizer {form}: {why}; but {other}: {whose}")
    if form == "projected" and "quantize.proj.weight" not in vqgan.tensors:
        raise ValueError(f"quantizer {form}: {why}, but there is no quantize.proj.weight among the tensors")
    report.append(f"quantizer {form}: {why}")
    return form


def _by_its_traits(vqgan: ForeignVQGAN) -> tuple[QuantizerForm, str]:
    """Whether a file with taming's names and no config is IBQ, by what only one of the two has."""
    pattern = re.compile(r"encoder\.down\.0\.block\.\d+\.conv1\.weight")
    blocks = sum(pattern.fullmatch(name) is not None for name in vqgan.tensors)
    if blocks == IBQ_BLOCKS and vqgan.has_lit_ema:
        return "dot", "four residual blocks a level and model_ema.*, as IBQ has (other: --quantizer nearest)"
    if blocks == IBQ_BLOCKS or vqgan.has_lit_ema:
        trait = "four residual blocks a level" if blocks == IBQ_BLOCKS else "model_ema.* beside its weights"
        raise ValueError(
            f"this may be IBQ or a VQGAN of taming's kind: {trait}. Their tensors are alike, and the wrong "
            "quantizer gives wrong codes. Put the model's YAML beside the file, or say --quantizer dot (IBQ) "
            "or nearest (taming-transformers, LDM)"
        )
    return "nearest", "as in taming-transformers, LDM and Chameleon (IBQ's would be: --quantizer dot)"
