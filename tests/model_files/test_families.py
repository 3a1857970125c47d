"""A tiny checkpoint of each family of VQGANs, in its own naming: converted, it gives the reference's codes
and pictures.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from painter_core.model_files.from_foreign import ConvertOptions
from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.stages.convert_checkpoint import ConvertConfig, convert
from tests.golden.formula import fill, image
from tests.support.reference_vqgan import Naming, Reference, Sizes, diffusers, llamagen, taming

State = dict[str, Tensor]
CODEBOOK = "quantize.embedding.weight"


def by_distance(z: Tensor, entries: Tensor) -> Tensor:
    """taming's argmin |z|^2 + |e|^2 - 2 z.e."""
    d = z.square().sum(-1, keepdim=True) + entries.square().sum(-1) - 2 * z @ entries.T
    return d.argmin(-1)


def quantize_taming(state: State, z: Tensor) -> tuple[Tensor, Tensor]:
    codes = by_distance(z, state[CODEBOOK])
    return codes, state[CODEBOOK][codes]


def quantize_gumbel(state: State, z: Tensor) -> tuple[Tensor, Tensor]:
    """GumbelQuantize.forward with its noise left out."""
    logits = F.conv1d(
        z.transpose(1, 2), state["quantize.proj.weight"][..., 0], state["quantize.proj.bias"]
    )  # (B, V, h*w)
    one_hot = F.one_hot(logits.argmax(1), logits.shape[1]).float()
    return logits.argmax(1), one_hot @ state["quantize.embed.weight"]


def quantize_llamagen(state: State, z: Tensor) -> tuple[Tensor, Tensor]:
    """Latents and entries are both normalised, at each use."""
    entries = F.normalize(state[CODEBOOK], p=2, dim=-1)
    codes = by_distance(F.normalize(z, p=2, dim=-1), entries)
    return codes, entries[codes]


def quantize_ibq(state: State, z: Tensor) -> tuple[Tensor, Tensor]:
    """IndexPropagationQuantize.forward in eval mode."""
    one_hot = torch.softmax(torch.einsum("bpd,nd->bpn", z, state[CODEBOOK]), dim=-1)
    codes = one_hot.max(-1)[1]
    return codes, F.one_hot(codes, one_hot.shape[-1]).float() @ state[CODEBOOK]


@dataclass(kw_only=True)
class Case:
    """A family: its network, its quantizer, and how it is kept on the disk."""

    naming: Callable[[int], Naming] = taming
    sizes: Sizes = field(default_factory=Sizes)
    quantize: Callable[[State, Tensor], tuple[Tensor, Tensor]] = quantize_taming
    write: Callable[[Path, State], Path] = lambda path, state: save(path / "last.ckpt", {"state_dict": state})
    said: str = "taming-transformers, LDM, Chameleon or IBQ"
    form: str = "nearest"
    options: ConvertOptions = field(default_factory=lambda: ConvertOptions(image_size=32))


def save(file: Path, content: object) -> Path:
    torch.save(content, file)
    return file


def with_loss(path: Path, state: State) -> Path:
    loss = {"loss.discriminator.main.0.weight": torch.ones(4, 3), "loss.logvar": torch.zeros(())}
    return save(path / "last.ckpt", {"state_dict": state | loss, "epoch": 3})


def with_yaml(path: Path, state: State) -> Path:
    """Chameleon's vqgan.ckpt and vqgan.yaml."""
    (path / "vqgan.yaml").write_text(
        "model:\n  target: taming.models.vqgan.VQModel\n  params:\n    embed_dim: 8\n    n_embed: 64\n"
        "    ddconfig: {z_channels: 16, resolution: 32, ch: 32, ch_mult: [1, 1, 2], num_res_blocks: 1,\n"
        "      attn_resolutions: []}\n"
    )
    return save(path / "vqgan.ckpt", {"state_dict": state})


def llamagen_file(path: Path, state: State) -> Path:
    used = {"quantize.codebook_used": torch.zeros(65536)}
    return save(path / "vq_ds16_t2i.pt", {"model": state | used, "steps": 1})


def janus_directory(path: Path, state: State) -> Path:
    """Two shards of safetensors; the one that holds the language model alone was never downloaded."""
    names = {f"gen_vision_model.{name}": tensor.clone() for name, tensor in state.items()}
    beside = {"language_model.model.embed_tokens.weight": torch.ones(2, 2)}
    save_file(names | beside, path / "model-00001-of-00002.safetensors")
    shards = dict.fromkeys([*names, *beside], "model-00001-of-00002.safetensors")
    shards["language_model.lm_head.weight"] = "model-00002-of-00002.safetensors"
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (path / "config.json").write_text('{"model_type": "multi_modality"}')
    return path


def averaged(state: State) -> State:
    """What LitEma keeps of a state dict that it has averaged."""
    return {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in state.items()} | {
        "model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(-1, dtype=torch.int)
    }  # fmt: skip


def ibq_file(path: Path, state: State) -> Path:
    """The state is that of the averaged weights; those beside it are others."""
    plain = {name: 0.5 * tensor for name, tensor in state.items()}
    loss = {"loss.discriminator.main.0.weight": torch.ones(4, 3)}
    return save(path / "imagenet256.ckpt", {"state_dict": plain | loss | averaged(state | loss)})


def diffusers_directory(path: Path, state: State) -> Path:
    save_file({k: t.clone() for k, t in state.items()}, path / "diffusion_pytorch_model.safetensors")
    (path / "config.json").write_text('{"_class_name": "VQModel", "norm_num_groups": 32, "sample_size": 32}')
    return path


CASES = {
    "taming": Case(write=with_loss),
    "ldm f8": Case(sizes=Sizes(ch_mult=(1, 1, 1, 2), attended=(3,), z_channels=4, embed_dim=4)),
    "ldm f16": Case(sizes=Sizes(ch_mult=(1, 1, 1, 1, 2), attended=(4,), z_channels=8, embed_dim=8)),
    "gumbel f8": Case(quantize=quantize_gumbel, said="Gumbel softmax", form="projected"),
    "llamagen": Case(
        naming=llamagen, quantize=quantize_llamagen, write=llamagen_file, said="LlamaGen", form="dot"
    ),
    "janus": Case(
        naming=llamagen,
        quantize=quantize_llamagen,
        write=janus_directory,
        said="2 of the language model around the VQGAN",
        form="dot",
    ),
    "ibq": Case(
        sizes=Sizes(num_res_blocks=4),
        quantize=quantize_ibq,
        write=ibq_file,
        said="model_ema.*, as IBQ has",
        form="dot",
    ),
    "chameleon": Case(sizes=Sizes(attended=()), write=with_yaml, options=ConvertOptions()),
    "diffusers": Case(
        naming=diffusers, write=diffusers_directory, said="diffusers' VQModel", options=ConvertOptions()
    ),
}


def reference(case: Case) -> Reference:
    """The network with all of a checkpoint's weights."""
    made = Reference(sizes=case.sizes, naming=case.naming(len(case.sizes.ch_mult)))
    made.fill_state()
    size, width = case.sizes.codebook_size, case.sizes.embed_dim
    names = {CODEBOOK: (size, width)}
    if case.quantize is quantize_gumbel:
        names = {
            "quantize.embed.weight": (size, width),
            "quantize.proj.weight": (size, width, 1, 1),
            "quantize.proj.bias": (size,),
        }
    made.state |= {name: torch.from_numpy(fill(name, shape)) for name, shape in names.items()}
    return made


def pixels(count: int = 4) -> Tensor:
    pictures = [torch.from_numpy(image(i, 32)).permute(2, 0, 1) for i in range(count)]
    return torch.stack(pictures).float() / 127.5 - 1


def converted(source: Path, target: Path, options: ConvertOptions) -> tuple[VQGAN, VQGANConfig, str]:
    report = convert(ConvertConfig(source=str(source), outputs=str(target), options=options))
    model = open_model(str(target))
    assert model.vqgan_config is not None
    return model.load_vqgan(), model.vqgan_config, "\n".join(report)


@torch.inference_mode()
def differing_codes(model: VQGAN, made: Reference, case: Case) -> int:
    return int((model.encode(pixels()) != case.quantize(made.state, made.latents(pixels()))[0]).sum())


@pytest.mark.parametrize("name", CASES)
def test_codes_and_pictures_are_the_reference_s(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    made = reference(case)
    (tmp_path / "in").mkdir()
    source = case.write(tmp_path / "in", made.state)
    model, config, report = converted(source, tmp_path / "out", case.options)
    with torch.inference_mode():
        codes, entries = case.quantize(made.state, made.latents(pixels()))
        assert len(codes.unique()) > 8  # else equal codes would say little
        assert torch.equal(model.encode(pixels()), codes)
        torch.testing.assert_close(model.decode(codes), made.picture(entries), rtol=0, atol=1e-5)
    assert case.said in report
    assert f"quantizer {case.form}: " in report
    assert config.quantizer == case.form
    assert (config.embed_dim, config.codebook_size) == (case.sizes.embed_dim, 64)
    # the same by every job's own way to a model, without a flag
    if case.options == ConvertOptions():
        assert open_model(str(source)).vqgan_sha256() == open_model(str(tmp_path / "out")).vqgan_sha256()


def test_ibq_as_nearest_would_make_other_codes(tmp_path: Path) -> None:
    """The same file with the wrong quantizer fails the test above: this is why it is never assumed."""
    case = CASES["ibq"]
    made = reference(case)
    source = case.write(tmp_path, made.state)
    right, _, _ = converted(source, tmp_path / "dot", case.options)
    wrong, _, _ = converted(source, tmp_path / "nearest", replace(case.options, quantizer="nearest"))
    assert differing_codes(right, made, case) == 0
    total = 4 * right.config.image_len
    assert differing_codes(wrong, made, case) > total / 2
    with torch.inference_mode():  # while its pictures look right
        codes = right.encode(pixels())
        assert torch.equal(wrong.decode(codes), right.decode(codes))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5])
def test_normalised_codebooks_hold_for_short_latents(tmp_path: Path, scale: float) -> None:
    case = CASES["llamagen"]
    made = reference(case)
    for kind in ("weight", "bias"):
        made.state[f"quant_conv.{kind}"] *= scale
    model, _, _ = converted(case.write(tmp_path, made.state), tmp_path / "out", case.options)
    with torch.inference_mode():
        assert float(made.latents(pixels()).norm(dim=-1).max()) < 10 * scale
    assert differing_codes(model, made, case) == 0
    lengths = model.quantize.embedding.weight.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(64))


def test_no_ema_takes_the_weights_themselves(tmp_path: Path) -> None:
    case = CASES["ibq"]
    made = reference(case)
    source = case.write(tmp_path, made.state)
    model, _, report = converted(source, tmp_path / "out", replace(case.options, no_ema=True))
    assert "the weights beside them, as --no-ema says" in report
    torch.testing.assert_close(
        model.encoder.conv_in.weight, 0.5 * made.state["encoder.conv_in.weight"], rtol=0, atol=0
    )
    made.state = {name: 0.5 * tensor for name, tensor in made.state.items()}
    assert differing_codes(model, made, case) == 0


def test_a_second_state_dict_under_ema_is_preferred(tmp_path: Path) -> None:
    """As LlamaGen's training writes it."""
    case = CASES["llamagen"]
    made = reference(case)
    plain = {name: 0.5 * tensor for name, tensor in made.state.items()}
    used = {"quantize.codebook_used": torch.zeros(65536)}
    file = save(tmp_path / "vq.pt", {"model": plain | used, "ema": made.state | used, "steps": 7})
    model, _, report = converted(file, tmp_path / "out", case.options)
    assert differing_codes(model, made, case) == 0
    assert torch.equal(model.encoder.conv_in.weight, made.state["encoder.conv_in.weight"])
    assert "taken: the averaged ones" in report
    other, _, _ = converted(file, tmp_path / "plain", replace(case.options, no_ema=True))
    assert torch.equal(other.encoder.conv_in.weight, plain["encoder.conv_in.weight"])
