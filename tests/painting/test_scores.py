"""Scores come out of sampling itself: they are what a separate pass over the drawn codes computes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from painter_core.model_files.caption_dropout import caption_dropout
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig, sample_codes
from painter_core.painting.scores import OF_CODES, ChoiceConfig, best_of
from painter_core.painting.static_sampling import StaticSampler
from tests.painting.test_static_sampling import GUIDED, LONG, formula_gpt, long_inputs
from tests.support.painting import CAPTIONS, write_painter

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = [
    SamplingConfig(top_k=5, temperature=0.5),
    SamplingConfig(top_k=0, top_p=0.7),
    SamplingConfig(top_k=5, guidance_scale=3.0),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("scores") / "model")


def painter(directory: Path, sampling: SamplingConfig, rows: int = 4, precision: str = "fp32") -> Painter:
    return Painter(
        open_model(str(directory)), device=torch.device("cpu"), precision=precision, sampling=sampling,
        seed=1, micro_batch_size=rows,
    )  # fmt: skip


def requests(start: np.ndarray | None = None) -> list[Request]:
    return [Request(idx=f"p{i}", text=text, start=start) for i, text in enumerate(CAPTIONS)]


def teacher_forced(gpt: GPT, text: Tensor, codes: Tensor) -> np.ndarray:
    """log p of the codes, float64 (B, L)."""
    with torch.no_grad():
        logits = gpt(torch.cat((text, codes[:, :-1]), 1)).double()
    return -F.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none").view_as(codes).numpy()


def expected(made: Painter, directory: Path, codes: np.ndarray, first: int = 0) -> dict[str, np.ndarray]:
    gpt = open_model(str(directory)).load_gpt()
    told = torch.from_numpy(made.text_ids(list(CAPTIONS)).ids)
    drawn = torch.from_numpy(codes.astype(np.int64))
    empty = torch.full_like(told, gpt.config.codebook_size)
    logp, untold = (teacher_forced(gpt, text, drawn)[:, first:].sum(1) for text in (told, empty))
    return {"logp": logp, "gain": logp - untold}


@pytest.mark.parametrize("sampling", SETTINGS)
def test_scores_are_those_of_a_separate_pass(directory: Path, sampling: SamplingConfig) -> None:
    made = painter(directory, sampling)
    drawn = made.draw(requests(), OF_CODES)
    for name, values in expected(made, directory, drawn.codes).items():
        np.testing.assert_allclose(drawn.scores[name], values, rtol=1e-4, atol=1e-4)
        assert np.ptp(values) > 1, "pictures differ"
    codes = np.concatenate([codes for codes, _ in made.paint(requests())])
    np.testing.assert_array_equal(drawn.codes, codes)  # the draws are those without scores
    only = made.draw(requests(), ["logp"])
    np.testing.assert_array_equal(only.scores["logp"], drawn.scores["logp"])
    assert list(only.scores) == ["logp"]


@pytest.mark.parametrize("config", [SamplingConfig(top_k=10), GUIDED])
def test_static_steps_keep_the_same_scores(config: SamplingConfig) -> None:
    text, uniforms = long_inputs(3, 1)
    shape = (3, config.rows_per_picture, LONG.image_len)
    plain, static = torch.zeros(shape), torch.zeros(shape)
    sampler = StaticSampler(formula_gpt(LONG), config, 3, scored=True)
    codes = sample_codes(formula_gpt(LONG), text, uniforms, config, log_p=plain)
    assert torch.equal(sampler.sample(text, uniforms, log_p=static), codes)
    torch.testing.assert_close(static, plain, atol=1e-5, rtol=1e-5)
    assert (plain < 0).all()


def test_a_caption_that_says_nothing_gains_nothing(directory: Path, tmp_path: Path) -> None:
    model = open_model(str(directory))
    gpt, vqgan = model.load_gpt(), model.load_vqgan()
    with torch.no_grad():
        gpt.tok_emb.weight[gpt.config.codebook_size :] = 0  # of the text
    deaf = tmp_path / "deaf"
    write_model(deaf, vqgan=vqgan, gpt=gpt, tokenizer=model.load_tokenizer(), card="")
    for sampling in (SETTINGS[0], SETTINGS[2]):
        drawn = painter(deaf, sampling).draw(requests(), OF_CODES)
        np.testing.assert_allclose(drawn.scores["gain"], 0, atol=1e-3)
        assert (drawn.scores["logp"] < -1).all()


def test_scores_do_not_depend_on_the_batch(directory: Path) -> None:
    found = [painter(directory, SETTINGS[0], rows).draw(requests(), OF_CODES) for rows in (1, 3, 8)]
    for other in found[1:]:
        np.testing.assert_array_equal(other.codes, found[0].codes)
        for name in OF_CODES:
            np.testing.assert_allclose(other.scores[name], found[0].scores[name], rtol=1e-4, atol=1e-4)
    three = painter(directory, SETTINGS[0], 3)
    alone = [three.draw([request], OF_CODES) for request in requests()]
    for name in OF_CODES:
        np.testing.assert_array_equal([d.scores[name][0] for d in alone], found[1].scores[name])


def test_scores_in_bfloat16_are_finite_and_near(directory: Path) -> None:
    made = painter(directory, SETTINGS[0], precision="bf16")
    drawn = made.draw(requests(), OF_CODES)
    for name, values in expected(made, directory, drawn.codes).items():
        np.testing.assert_allclose(drawn.scores[name], values, rtol=0.05, atol=4)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=4, max_size=4), max_size=5))
def test_the_best_are_kept(values: list[list[float]]) -> None:
    scores = np.array(values, np.float32).reshape(-1, 4)
    for keep in (1, 3, 4):
        for best_first in (False, True):
            kept = best_of(scores, keep, best_first=best_first)
            for i, row in enumerate(scores.tolist()):
                order = sorted(range(4), key=lambda n, row=row: (-row[n], n))[:keep]  # ties: the earlier one
                here = slice(i * keep, (i + 1) * keep)
                assert kept.samples[here].tolist() == (order if best_first else sorted(order))
                assert kept.rows[here].tolist() == [4 * i + n for n in kept.samples[here]]
                assert [order.index(n) for n in kept.samples[here]] == kept.ranks[here].tolist()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"rank_by": "clip", "keep_best": 1}, "--rank-by clip: goes with --clip DIR"),
        ({"rank_by": "best", "keep_best": 1}, "--rank-by: got best, expected logp, gain, caption or clip"),
        ({"rank_by": "gain"}, "--rank-by gain: goes with --keep-best"),
        ({"keep_best": 0}, "--keep-best: got 0, expected 1 to 4"),
        ({"keep_best": 5}, "--keep-best: got 5, expected 1 to 4"),
    ],
)
def test_flags_that_choose_nothing(flags: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChoiceConfig(**flags).check(4)


@pytest.mark.parametrize("share", [0.0, 0.1, None])
def test_a_card_says_whether_empty_captions_were_seen(share: float | None, tmp_path: Path) -> None:
    directory = write_painter(tmp_path / "model", caption_dropout=share)
    assert caption_dropout(open_model(str(directory))) == share
    (directory / "README.md").write_text("```json\n{ broken\n```\n")
    assert caption_dropout(open_model(str(directory))) is None
