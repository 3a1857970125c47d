"""The two networks against the reference implementations' outputs, and against themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from tests.golden.formula import fill, image, tokens

GOLDEN = Path(__file__).parents[1] / "golden"
KEYS = json.loads((GOLDEN / "keys.json").read_text())

VQ_SMALL = VQGANConfig(
    image_size=64,
    ch=32,
    ch_mult=(1, 1, 2, 2, 4),
    num_res_blocks=1,
    attn_resolutions=(4,),
    z_channels=64,
    embed_dim=64,
    codebook_size=512,
)
GPT_SMALL = GPTConfig(
    text_vocab_size=700, codebook_size=512, text_len=8, image_len=16, n_layer=2, n_head=4, n_embd=64
)
GPT_BASE = GPTConfig()
GPT_LARGE = GPTConfig(n_layer=24, n_head=16, n_embd=1024)


def filled(model: torch.nn.Module) -> torch.nn.Module:
    """The model with formula weights."""
    state = {k: torch.from_numpy(fill(k, tuple(t.shape))) for k, t in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    """Within 1e-3 of the largest magnitude."""
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-3 * scale)


def shapes(model: torch.nn.Module) -> dict[str, list[int]]:
    return {k: list(t.shape) for k, t in model.state_dict().items()}


@pytest.mark.parametrize(
    ("case", "model"),
    [("vq_small", VQGAN(VQ_SMALL)), ("gpt_small", GPT(GPT_SMALL))],
)
def test_state_dict_has_published_names(case: str, model: torch.nn.Module) -> None:
    assert shapes(model) == KEYS[case]


@pytest.mark.parametrize(
    ("case", "build", "parameters"),
    [
        ("vq_full", lambda: VQGAN(VQGANConfig()), 76_073_859),
        ("gpt_base", lambda: GPT(GPT_BASE), 126_669_312),
        (None, lambda: GPT(GPT_LARGE), 357_795_840),
    ],
)
def test_parameter_counts(case: str | None, build, parameters: int) -> None:
    with torch.device("meta"):
        model = build()
    assert sum(p.numel() for p in model.parameters()) == parameters
    if case:
        assert shapes(model) == KEYS[case]


@pytest.mark.parametrize(
    ("case", "config", "count", "decoded"),
    [("vq_small", VQ_SMALL, 4, 4), pytest.param("vq_full", VQGANConfig(), 1, 1, marks=pytest.mark.long)],
)
def test_vqgan_equals_reference(case: str, config: VQGANConfig, count: int, decoded: int) -> None:
    """Codes and pixels of the first pictures: at full size each takes seconds."""
    golden = np.load(GOLDEN / f"{case}.npz")
    model = filled(VQGAN(config))
    pixels = np.stack([image(i, config.image_size) for i in range(count)])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents: list[torch.Tensor] = []
    model.quant_conv.register_forward_hook(lambda module, inputs, z: latents.append(z))
    with torch.inference_mode():
        codes = model.encode(x)
        rec = model.decode(codes[:decoded])
    (z,) = latents
    np.testing.assert_array_equal(codes.numpy(), golden["codes"][:count])
    close(z.mean(dim=(1, 2, 3)), golden["latent_mean"][:count])
    close(z[:, :8, :2, :2], golden["latent_patch"][:count])
    close(rec[:, :, :16, :16], golden["rec_patch"][:decoded])
    close(rec.mean(dim=(1, 2, 3)), golden["rec_mean"][:decoded])
    close(rec.std(dim=(1, 2, 3)), golden["rec_std"][:decoded])


@torch.inference_mode()
def decode(model: GPT, text: torch.Tensor, steps: int) -> torch.Tensor:
    """Greedy codes (B, steps) with the cache."""
    cached = CachedGPT(model, torch.float32)
    codes = [cached.prefill(text).argmax(1)]
    for i in range(steps - 1):
        codes.append(cached.step(codes[-1], text.shape[1] + i).argmax(1))
    return torch.stack(codes, 1)


@pytest.mark.parametrize(
    ("case", "config", "batch", "drawn", "cached_steps"),
    [("gpt_small", GPT_SMALL, 4, 4, 16), pytest.param("gpt_base", GPT_BASE, 2, 1, 4, marks=pytest.mark.long)],
)
def test_gpt_equals_reference(
    case: str, config: GPTConfig, batch: int, drawn: int, cached_steps: int
) -> None:
    """All greedy codes without the cache, each after the golden ones before it, and the first with it: of the
    first `drawn` texts.

    All 256 steps with the cache at full size: test_full_size_golden in tests/painting/test_pipeline.py.
    """
    golden = np.load(GOLDEN / f"{case}.npz")
    model = filled(GPT(config))
    text = torch.from_numpy(tokens(batch, config.text_len, config.codebook_size, config.vocab_size))
    codes = torch.from_numpy(tokens(batch, config.image_len, 0, config.codebook_size, salt=1))
    with torch.inference_mode():
        logits = model(torch.cat((text, codes), 1)[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten())
        top = logits[:, ::16].topk(5)
        told = torch.from_numpy(golden["greedy"][:drawn])
        greedy = model(torch.cat((text[:drawn], told), 1)[:, :-1]).argmax(2)
        cached = decode(model, text[:drawn], cached_steps)
    assert float(loss) == pytest.approx(float(golden["loss"]), rel=1e-3)
    np.testing.assert_array_equal(top.indices.numpy(), golden["top_ids"])
    close(top.values, golden["top_values"])
    close(logits.mean(dim=(1, 2)), golden["logit_mean"])
    close(logits.std(dim=(1, 2)), golden["logit_std"])
    np.testing.assert_array_equal(greedy.numpy(), told)
    np.testing.assert_array_equal(cached.numpy(), told[:, :cached_steps])


def test_cached_decoding_equals_uncached() -> None:
    model = filled(GPT(GPT_SMALL))
    text = torch.from_numpy(tokens(3, 8, 512, 1212, salt=5))
    with torch.inference_mode():
        cached = decode(model, text, 16)
        sequence = text
        for _ in range(16):
            code = model(sequence)[:, -1].argmax(1, keepdim=True)
            sequence = torch.cat((sequence, code), 1)
        # teacher-forced logits agree with the cached steps too, not only their arg-max
        full = model(sequence[:, :-1])
        steps = CachedGPT(model, torch.float32)
        first = steps.prefill(text)
        second = steps.step(sequence[:, 8], 8)
    assert torch.equal(cached, sequence[:, 8:])
    torch.testing.assert_close(full[:, 0], first)
    torch.testing.assert_close(full[:, 1], second)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"ch": 48}, "vqgan.ch"),
        ({"image_size": 100}, "vqgan.image_size"),
        ({"codebook_size": 0}, "codebook_size"),
    ],
)
def test_bad_geometry_is_named(bad: dict, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        VQGANConfig(**bad)
