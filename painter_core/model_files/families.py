"""The families of VQGANs, known by the names of their tensors, and what each name is here.

All are the network of painter_core.models.vqgan under other names. IBQ bears taming's names to the letter;
foreign_alone.py tells it apart.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from painter_core.models.quantizer import QuantizerForm


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


# Beginnings of names in a file -> ours. # is a number; ~ is the number of # counted from the last level.
_ENDS = _same(
    "encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out", "quant_conv",
    "post_quant_conv",
)  # fmt: skip
_CODEBOOK = _same("quantize.embedding.weight")
_TAMING = _ENDS | _same(
    "encoder.down.#", "encoder.mid", "encoder.norm_out", "decoder.up.#", "decoder.mid", "decoder.norm_out"
)
_LLAMAGEN = (
    _ENDS
    | _CODEBOOK
    | _same("encoder.norm_out", "decoder.norm_out")
    | {
        "encoder.conv_blocks.#.res": "encoder.down.#.block",
        "encoder.conv_blocks.#.attn": "encoder.down.#.attn",
        "encoder.conv_blocks.#.downsample": "encoder.down.#.downsample",
        "encoder.mid.0": "encoder.mid.block_1",
        "encoder.mid.1": "encoder.mid.attn_1",
        "encoder.mid.2": "encoder.mid.block_2",
        "decoder.mid.0": "decoder.mid.block_1",
        "decoder.mid.1": "decoder.mid.attn_1",
        "decoder.mid.2": "decoder.mid.block_2",
        "decoder.conv_blocks.#.res": "decoder.up.~.block",
        "decoder.conv_blocks.#.attn": "decoder.up.~.attn",
        "decoder.conv_blocks.#.upsample": "decoder.up.~.upsample",
    }
)
_DIFFUSERS = (
    _ENDS
    | _CODEBOOK
    | {
        "encoder.down_blocks.#.resnets": "encoder.down.#.block",
        "encoder.down_blocks.#.attentions": "encoder.down.#.attn",
        "encoder.down_blocks.#.downsamplers.0": "encoder.down.#.downsample",
        "encoder.mid_block.resnets.0": "encoder.mid.block_1",
        "encoder.mid_block.attentions.0": "encoder.mid.attn_1",
        "encoder.mid_block.resnets.1": "encoder.mid.block_2",
        "encoder.conv_norm_out": "encoder.norm_out",
        "decoder.mid_block.resnets.0": "decoder.mid.block_1",
        "decoder.mid_block.attentions.0": "decoder.mid.attn_1",
        "decoder.mid_block.resnets.1": "decoder.mid.block_2",
        "decoder.up_blocks.#.resnets": "decoder.up.~.block",
        "decoder.up_blocks.#.attentions": "decoder.up.~.attn",
        "decoder.up_blocks.#.upsamplers.0": "decoder.up.~.upsample",
        "decoder.conv_norm_out": "decoder.norm_out",
    }
)
# layers within diffusers' blocks; its attention was renamed once
_DIFFUSERS_LAYERS = {
    "conv_shortcut": "nin_shortcut", "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v",
    "to_out.0": "proj_out", "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one family names its tensors."""

    title: str
    """The name in the report."""
    marker: str
    """Beginnings of names that only this family has."""
    names: Mapping[str, str]
    """Beginnings of names -> ours."""
    layers: Mapping[str, str] = field(default_factory=dict)
    """Names of layers within a block -> ours."""
    left_out: tuple[str, ...] = ()
    """Names that are not needed here."""
    quantizer: QuantizerForm | None = None
    """None if the names do not tell."""

    def all_ours(self, names: Iterable[str]) -> dict[str, str | None]:
        """For each name what it is here; None if the family has no such name."""
        names = list(names)
        numbers = (re.match(rf"{re.escape(self.marker)}(\d+)\.", name) for name in names)
        levels = 1 + max((int(number[1]) for number in numbers if number), default=0)
        return {name: self._ours(name, levels) for name in names}

    def _ours(self, name: str, levels: int) -> str | None:
        for theirs, ours in self.names.items():
            pattern = re.escape(theirs).replace(r"\#", r"(?P<number>\d+)") + r"(?P<rest>(\..+)?)"
            if match := re.fullmatch(pattern, name):
                number = int(match.groupdict().get("number", 0))
                ours = ours.replace("#", str(number)).replace("~", str(levels - 1 - number))
                return ours + self._renamed(match["rest"])
        return None

    def _renamed(self, rest: str) -> str:
        """The end of a name, from within a block."""
        for theirs, ours in self.layers.items():
            if f".{theirs}." in rest:
                return rest.replace(f".{theirs}.", f".{ours}.")
        return rest


TAMING = Family(
    title="taming-transformers, LDM, Chameleon or IBQ",
    marker="encoder.down.",
    names=_TAMING | _CODEBOOK,
    left_out=("quantize.embedding.cluster_size", "quantize.embedding.embed_avg"),  # a moving average's
)
GUMBEL = Family(
    title="taming-transformers with Gumbel softmax",
    marker="quantize.proj.",
    names=_TAMING | _same("quantize.proj") | {"quantize.embed.weight": "quantize.embedding.weight"},
    quantizer="projected",
)
LLAMAGEN = Family(
    title="LlamaGen, Janus",
    marker="encoder.conv_blocks.",
    names=_LLAMAGEN,
    left_out=("quantize.codebook_used",),
    quantizer="dot",
)
DIFFUSERS = Family(
    title="diffusers' VQModel",
    marker="encoder.down_blocks.",
    names=_DIFFUSERS,
    layers=_DIFFUSERS_LAYERS,
    quantizer="nearest",
)
FAMILIES = (LLAMAGEN, DIFFUSERS, GUMBEL, TAMING)  # Gumbel's encoder bears taming's names too


def recognise(names: Iterable[str]) -> tuple[Family, dict[str, str]]:
    """The family of a VQGAN's tensors, and for each of our names the one that it has there.

    Args:
        names: without prefixes, and without what belongs to another network.

    Raises:
        ValueError: no family has such names, or not all of them; the first odd one is named first.
    """
    names = list(names)
    candidates = [f for f in FAMILIES if any(name.startswith(f.marker) for name in names)]
    if not candidates:
        known = ", ".join(f"{f.marker}* ({f.title})" for f in FAMILIES)
        raise ValueError(
            f"no VQGAN that is known here: the first of {len(names)} tensors is {names[0]}, and none is "
            f"{known}"
        )
    # the one that explains most: what is odd in a mixture is what there is less of
    family = max(candidates, key=lambda f: sum(ours is not None for ours in f.all_ours(names).values()))
    found: dict[str, str] = {}
    strange = []
    for name, ours in family.all_ours(names).items():
        if ours in found:
            raise ValueError(f"{found[ours]} and {name} would both be {ours}")
        if ours is not None:
            found[ours] = name
        elif name not in family.left_out:
            strange.append(name)
    if strange:
        raise ValueError(
            f"{len(strange)} unexpected tensors: {', '.join(strange[:10])}; the others are named as those of "
            f"{family.title}"
        )
    return family, found
