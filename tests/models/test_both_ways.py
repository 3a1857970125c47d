"""A GPT of both directions: positions by content, causal both ways, and painting is what it was."""

import dataclasses

import pytest
import torch

from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import CAPTIONS, DIRECTIONS, GPT, PAINTS, GPTConfig, with_text_head

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = GPTConfig(
    text_vocab_size=50, codebook_size=32, text_len=6, image_len=16, n_layer=2, n_head=2, n_embd=16
)
ROWS = 3


@pytest.fixture
def gpt() -> GPT:
    torch.manual_seed(1)
    model = GPT(dataclasses.replace(CONFIG, directions=(PAINTS, CAPTIONS))).eval()
    torch.nn.init.normal_(model.pos_emb, std=0.3)
    with torch.no_grad():  # logits that differ
        model.tok_emb.weight *= 20
        model.text_head.weight *= 3
    return model


@pytest.fixture
def text() -> torch.Tensor:
    return torch.randint(32, 82, (ROWS, 6), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def codes() -> torch.Tensor:
    return torch.randint(0, 32, (ROWS, 16), generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def text_logits(gpt: GPT, codes: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return gpt(torch.cat((codes, text[:, :-1]), 1), 0)[1]


@torch.inference_mode()
def test_a_mixed_batch_is_both_kinds_of_row(gpt: GPT, text: torch.Tensor, codes: torch.Tensor) -> None:
    painted = torch.cat((text, codes[:, :-1]), 1)
    captioned = torch.cat((codes, text[:, :-1]), 1)
    images, texts = gpt(torch.cat((painted[:1], captioned[1:])), 1)
    assert images.shape == (1, 16, 32)
    assert texts.shape == (2, 6, 50)
    torch.testing.assert_close(images, gpt(painted)[:1])
    torch.testing.assert_close(texts, text_logits(gpt, codes, text)[1:])


@torch.inference_mode()
def test_positions_go_with_the_content(gpt: GPT, text: torch.Tensor, codes: torch.Tensor) -> None:
    """Without attention to what stands before, an id's place in the sequence leaves no trace."""
    for block in gpt.blocks:
        block.attn.proj.weight.zero_()
    seen: list[torch.Tensor] = []
    handle = gpt.ln_f.register_forward_hook(lambda module, inputs, found: seen.append(inputs[0]))
    gpt(torch.cat((text, codes[:, :-1]), 1))
    gpt(torch.cat((codes, text[:, :-1]), 1), 0)
    handle.remove()
    of_codes, of_text = seen[0], seen[1]  # from the last text id on; from the last code on
    torch.testing.assert_close(of_codes[:, 0], gpt_stream(gpt, text[:, -1], 5))
    torch.testing.assert_close(of_text[:, 0], gpt_stream(gpt, codes[:, -1], 21))
    torch.testing.assert_close(of_text[:, 1], gpt_stream(gpt, text[:, 0], 0))


def gpt_stream(gpt: GPT, ids: torch.Tensor, position: int) -> torch.Tensor:
    """What becomes of ids (B,) that see nothing else, with the embedding of a position."""
    x = gpt.tok_emb(ids) + gpt.pos_emb[0, position]
    for block in gpt.blocks:
        x = x + block.attn.proj.bias
        x = x + block.mlp(block.ln2(x))
    return x


def test_nothing_leaks_from_later_text(gpt: GPT, text: torch.Tensor, codes: torch.Tensor) -> None:
    before = text_logits(gpt, codes, text)
    for j in range(5):  # the last id is no input
        changed = text.clone()
        changed[:, j] = 32 + (changed[:, j] - 32 + 1) % 50
        after = text_logits(gpt, codes, changed)
        assert torch.equal(after[:, : j + 1], before[:, : j + 1]), j
        assert (after[:, j + 1 :] != before[:, j + 1 :]).any(-1).all(), j
    for i in (0, 7, 15):
        other = codes.clone()
        other[:, i] = (other[:, i] + 1) % 32
        assert (text_logits(gpt, other, text) != before).any(-1).all(), "every code is seen by all text"


@torch.inference_mode()
def test_cached_decoding_is_teacher_forcing(gpt: GPT, text: torch.Tensor, codes: torch.Tensor) -> None:
    expected = text_logits(gpt, codes, text)
    model = CachedGPT(gpt, torch.float32).turned()
    logits = [model.prefill(codes)]
    logits += [model.step(text[:, j], 16 + j) for j in range(5)]
    torch.testing.assert_close(torch.stack(logits, 1), expected, atol=1e-5, rtol=1e-5)
    rows = torch.stack(list(model.logits_of_rows(codes, text)))
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)
    model.prefill(codes)
    model.repeat(torch.tensor([2, 0, 0, 1]))
    found = model.step(text[[2, 0, 0, 1], 0], 16)
    torch.testing.assert_close(found, expected[[2, 0, 0, 1], 1], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_new_head_changes_no_painting(text: torch.Tensor, codes: torch.Tensor) -> None:
    torch.manual_seed(4)
    plain = GPT(CONFIG).eval()
    both = with_text_head(plain)
    assert torch.equal(both.text_head.weight, plain.tok_emb.weight[32:])
    assert all(p.requires_grad for p in both.parameters())
    painted = torch.cat((text, codes[:, :-1]), 1)
    assert torch.equal(both(painted), plain(painted))
    assert torch.equal(
        CachedGPT(both, torch.float32).prefill(text), CachedGPT(plain, torch.float32).prefill(text)
    )
    assert with_text_head(both) is both


def test_new_weights_are_those_of_a_model_that_paints_only() -> None:
    torch.manual_seed(5)
    plain = GPT(CONFIG).state_dict()
    torch.manual_seed(5)
    both = GPT(dataclasses.replace(CONFIG, directions=(PAINTS, CAPTIONS))).state_dict()
    assert set(both) == {*plain, "text_head.weight"}
    assert all(torch.equal(both[name], plain[name]) for name in plain)


def test_a_model_that_only_captions(text: torch.Tensor, codes: torch.Tensor) -> None:
    gpt = GPT(dataclasses.replace(CONFIG, directions=(CAPTIONS,))).eval()
    assert "head.weight" not in gpt.state_dict()
    found = text_logits(gpt, codes, text)
    assert found.shape == (ROWS, 6, 50)
    torch.testing.assert_close(CachedGPT(gpt, torch.float32).turned().prefill(codes), found[:, 0])


def test_config_is_what_it_was_without_the_direction() -> None:
    assert "directions" not in CONFIG.to_json()
    assert CONFIG.to_json() == {
        "text_vocab_size": 50, "codebook_size": 32, "text_len": 6, "image_len": 16, "n_layer": 2, "n_head": 2,
        "n_embd": 16,
    }  # fmt: skip
    for directions in DIRECTIONS:
        config = dataclasses.replace(CONFIG, directions=directions)
        assert GPTConfig(**config.to_json()) == config
    for wrong in ([], ["image_to_text", "text_to_image"], "text_to_image", 3):
        with pytest.raises(ValueError, match=r"gpt\.directions: got"):
            dataclasses.replace(CONFIG, directions=wrong)  # type: ignore[arg-type]
