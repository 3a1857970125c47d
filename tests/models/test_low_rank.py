"""Low-rank adapters: nothing at the start, merged they compute the same to the bit, and they are few."""

import pytest
import torch

from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.low_rank import adapter_state, add_adapters, has_adapters, merged
from painter_core.painting.sampling import SamplingConfig, sample_codes
from tests.training.test_training import TINY

pytestmark = pytest.mark.usefixtures("one_thread")

RANK = 3


def gpt(*, trained: bool = False) -> GPT:
    torch.manual_seed(0)
    model = GPT(TINY)
    add_adapters(model, RANK, seed=7)
    if trained:
        for name, tensor in adapter_state(model).items():
            if name.endswith("up"):
                tensor.copy_(torch.randn(tensor.shape) * 0.1)
    return model


IDX = torch.arange(2 * (TINY.text_len + TINY.image_len - 1)).reshape(2, -1) % TINY.codebook_size


def test_new_adapters_add_nothing() -> None:
    torch.manual_seed(0)
    assert torch.equal(GPT(TINY)(IDX), gpt()(IDX))
    assert torch.equal(
        adapter_state(gpt())["blocks.1.mlp.2.down"], adapter_state(gpt())["blocks.1.mlp.2.down"]
    ), "drawn by the seed"


def test_merged_computes_the_same_to_the_bit_and_paints_equal_codes() -> None:
    model = gpt(trained=True).eval()
    whole = merged(model)
    assert not has_adapters(whole)
    assert list(whole.state_dict()) == list(GPT(TINY).state_dict())
    assert torch.equal(whole(IDX), model(IDX))
    assert not torch.allclose(whole(IDX), gpt()(IDX))
    text, uniforms = torch.full((5, TINY.text_len), TINY.codebook_size), torch.rand(5, TINY.image_len)
    codes = [
        sample_codes(CachedGPT(one, torch.float32), text, uniforms, SamplingConfig(guidance_scale=2.0))
        for one in (model, whole)
    ]
    assert torch.equal(*codes)
    assert merged(whole) is whole, "nothing to do"


def test_only_adapters_are_trained() -> None:
    model = gpt()
    model(IDX).square().mean().backward()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(adapter_state(model))
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert all(p.requires_grad for p in merged(model).parameters())


@pytest.mark.parametrize(
    ("geometry", "most"), [((4, 8, 192), 0.03), ((12, 12, 768), 0.012), ((24, 16, 1024), 0.011)]
)
def test_adapters_of_rank_8_are_few(geometry: tuple[int, int, int], most: float) -> None:
    n_layer, n_head, n_embd = geometry
    config = GPTConfig(n_layer=n_layer, n_head=n_head, n_embd=n_embd)
    with torch.device("meta"):
        total = sum(p.numel() for p in GPT(config).parameters())
    widths = 3 * [(n_embd, n_embd)] + 2 * [(n_embd, 4 * n_embd)]
    assert n_layer * sum(8 * (a + b) for a, b in widths) / total < most
