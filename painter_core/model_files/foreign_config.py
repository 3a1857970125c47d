"""The config beside a foreign VQGAN's weights: the YAML of taming, LDM, Chameleon or IBQ, diffusers' config.

taming, LDM, Chameleon    model: {target: ..., params: {embed_dim, n_embed, ddconfig: {...}}}
IBQ                       model: {class_path: ..., init_args: {embed_dim, n_embed, ddconfig: {...}}}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from painter_core.models.vqgan import VQGANConfig

# ddconfig of the YAML -> ours
_GEOMETRY = {
    "z_channels": "z_channels",
    "resolution": "image_size",
    "ch": "ch",
    "ch_mult": "ch_mult",
    "num_res_blocks": "num_res_blocks",
    "attn_resolutions": "attn_resolutions",
}
_CODEBOOK = {"embed_dim": "embed_dim", "n_embed": "codebook_size"}
# of the class that the YAML names
_NEAREST = ("taming.models.vqgan.", "ldm.models.autoencoder.")
_DOT = ".ibqgan.IBQ"


@dataclass(frozen=True, kw_only=True)
class ForeignConfig:
    """What a YAML says about a VQGAN."""

    file: Path
    target: str
    """The class in its own project; empty if it is not named."""
    sizes: dict[str, Any]
    """Our names -> plain numbers and lists."""

    @property
    def quantizer(self) -> Literal["nearest", "dot", "projected"] | None:
        """As the class makes codes; None for one that is not known here."""
        if self.target.endswith(_DOT):
            return "dot"
        if self.target.endswith(".GumbelVQ"):
            return "projected"
        return "nearest" if self.target.startswith(_NEAREST) else None

    def check(self, vqgan: VQGANConfig) -> None:
        """Raises a ValueError that lists everything in which the tensors differ."""
        stated = dict(self.sizes)
        if "attn_resolutions" in stated:
            # a config may name sides that no level has
            sides = [vqgan.image_size // 2**i for i in range(len(vqgan.ch_mult))]
            stated["attn_resolutions"] = [side for side in sides if side in stated["attn_resolutions"]]
        differing = [
            f"{name} is {value}, the tensors say {_plain(getattr(vqgan, name))}"
            for name, value in stated.items()
            if value != _plain(getattr(vqgan, name))
        ]
        if differing:
            raise ValueError(f"{self.file.name} belongs to another model: " + "; ".join(differing))


def config_file(weights: Path) -> Path | None:
    """The YAML that belongs to a checkpoint: beside it, or in configs/ beside its directory."""
    beside, configs = weights.parent, weights.parent.parent / "configs"
    names = [beside / f"{weights.stem}.yaml", beside / "model.yaml", configs / "model.yaml"]
    names += sorted(configs.glob("*-project.yaml"))[-1:]
    return next((path for path in names if path.is_file()), None)


def read_config(file: Path) -> ForeignConfig:
    """What a YAML says, nothing but plain numbers and lists taken from it.

    Raises:
        ValueError: it is no config of a VQGAN.
    """
    try:
        model = yaml.safe_load(file.read_text())["model"]
        params = model["params"] if "params" in model else model["init_args"]
        geometry = params["ddconfig"].items()
        target = str(model.get("target") or model.get("class_path") or "")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{file}: no config of a taming VQGAN, nor of IBQ; expected model.params.ddconfig or "
            "model.init_args.ddconfig"
        ) from None
    if params.get("l2_normalize") or params.get("remap"):
        raise ValueError(f"{file}: l2_normalize or remap is set, which no published model has: not supported")
    sizes = {_GEOMETRY[name]: value for name, value in geometry if name in _GEOMETRY}
    sizes |= {ours: params[name] for name, ours in _CODEBOOK.items() if name in params}
    for name, value in sizes.items():
        is_list = isinstance(value, list)
        if is_list != (name in ("ch_mult", "attn_resolutions")) or not all(
            type(v) is int for v in (value if is_list else [value])
        ):
            raise ValueError(f"{file}: {name} is {value!r}, which is no geometry")
    return ForeignConfig(file=file, target=target, sizes=sizes)


def check_diffusers(spec: Mapping[str, Any], name: str) -> int | None:
    """The side of the pictures that a diffusers VQModel's config.json names, if it does.

    Raises:
        ValueError: it says something that this network does not do.
    """
    expected = {
        "act_fn": "silu", "norm_num_groups": 32, "norm_type": "group", "mid_block_add_attention": True,
        "in_channels": 3, "out_channels": 3,
    }  # fmt: skip
    if other := [f"{k} {spec[k]!r}, not {v!r}" for k, v in expected.items() if spec.get(k, v) != v]:
        raise ValueError(f"{name}: a VQModel with {', '.join(other)}: this network is not supported")
    side = spec.get("sample_size")
    return side if type(side) is int else None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
