"""A model without values: the names and shapes of one that has them, and nothing drawn."""

import pytest
import torch
from torch import nn

from painter_core.models.gpt import GPT
from painter_core.models.unfilled import unfilled
from painter_core.models.vqgan import VQGAN
from tests.support.foreign import GPT_TINY, VQGAN_TINY


def shapes(model: nn.Module) -> dict[str, tuple]:
    return {name: (tuple(t.shape), t.dtype) for name, t in model.state_dict().items()}


@pytest.mark.parametrize(("kind", "config"), [(VQGAN, VQGAN_TINY), (GPT, GPT_TINY)])
def test_it_has_the_names_and_shapes_of_a_filled_one(kind, config) -> None:
    before = torch.get_rng_state()
    model = unfilled(kind, config)
    assert torch.equal(torch.get_rng_state(), before), "no random number was drawn"
    assert {p.device.type for p in model.state_dict().values()} == {"meta"}
    assert shapes(model) == shapes(kind(config))
    assert [p.requires_grad for p in model.parameters()] == [
        p.requires_grad for p in kind(config).parameters()
    ]


def test_models_made_later_have_their_first_values() -> None:
    unfilled(nn.Linear, 3, 3)
    torch.manual_seed(0)
    assert nn.Linear(3, 3).weight.std() > 0
