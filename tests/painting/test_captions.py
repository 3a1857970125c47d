"""Captions that are drawn, looked for by a beam, and scored: held against the model without a cache."""

from pathlib import Path

import numpy as np
import pytest
import torch

from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT
from painter_core.painting.caption_sampling import CaptionSampling
from painter_core.painting.captioner import Captioner, Captions
from painter_core.painting.sampling import row_uniforms
from tests.support.captioning import write_captioner

pytestmark = pytest.mark.usefixtures("one_thread")

SEED = 5
IDX = [f"r{i}" for i in range(10)]
T = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("captions") / "model")


@pytest.fixture(scope="module")
def gpt(model: Path) -> GPT:
    return open_model(str(model)).load_gpt()


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 64, (10, 16))


def captioner(model: Path, *, rows: int = 4, number: int = 1, **sampling: float) -> Captioner:
    return Captioner(
        open_model(str(model)),
        device=torch.device("cpu"),
        precision="fp32",
        sampling=CaptionSampling(**sampling),  # type: ignore[arg-type]
        seed=SEED,
        micro_batch_size=rows,
        max_generated_num=number,
    )


@torch.inference_mode()
def next_log_p(gpt: GPT, codes: np.ndarray, ids: list[int]) -> np.ndarray:
    """log p (W,) of the id after some, by one pass over all of them."""
    text = torch.full((1, T), 64)
    text[0, : len(ids)] += torch.tensor(ids, dtype=torch.int64)
    idx = torch.cat((torch.from_numpy(codes)[None], text[:, :-1]), 1)
    return gpt(idx, 0)[1][0, len(ids)].double().log_softmax(0).numpy()


def confined(log_p: np.ndarray, step: int) -> np.ndarray:
    """Without [UNK], [CLS], [SEP], [MASK], and without an empty caption."""
    found = log_p.copy()
    found[1:5] = -np.inf
    if step == 0:
        found[0] = -np.inf
    return found


def drawn(gpt: GPT, codes: np.ndarray, uniforms: np.ndarray, top_k: int, top_p: float, heat: float) -> tuple:
    """A caption and its score by the definition: without a cache, one picture at a time."""
    ids: list[int] = []
    score = 0.0
    for step in range(T):
        log_p = next_log_p(gpt, codes, ids)
        kept = np.argsort(-confined(log_p, step), kind="stable")[:top_k]
        p = np.exp((log_p[kept] - log_p[kept[0]]) / heat)
        p /= p.sum()
        held = np.cumsum(p) - p < top_p
        kept, p = kept[held], p[held] / p[held].sum()
        chosen = int(kept[min(np.searchsorted(np.cumsum(p), uniforms[step], side="right"), len(kept) - 1)])
        score += log_p[chosen]
        if chosen == 0:
            break
        ids.append(chosen)
    return ids, score


@pytest.mark.parametrize(
    ("top_k", "top_p", "temperature"), [(1, 1.0, 1.0), (20, 1.0, 1.0), (50, 0.8, 1.0), (10, 1.0, 0.5)]
)
def test_captions_are_drawn_as_defined(
    model: Path, gpt: GPT, codes: np.ndarray, top_k: int, top_p: float, temperature: float
) -> None:
    made = captioner(model, top_k=top_k, top_p=top_p, temperature=temperature)
    found = made.write(codes, IDX)
    for i, name in enumerate(IDX):
        ids, score = drawn(gpt, codes[i], row_uniforms(SEED, name, 0, T), top_k, top_p, temperature)
        assert found.texts[i] == made.tokenizer.caption(ids)
        assert found.scores[i] == pytest.approx(score, abs=1e-4)
        assert found.num_tokens[i] == min(len(ids) + 1, T)
    assert len(set(found.texts)) > 5
    assert 1 < found.num_tokens.min() < T, "one of them ends early"


def equal(a: Captions, b: Captions) -> bool:
    return a.texts == b.texts and a.scores.tolist() == b.scores.tolist()


def test_a_caption_depends_on_its_own_row_alone(model: Path, codes: np.ndarray) -> None:
    made = captioner(model, top_k=50, number=3)
    whole = made.write(codes, IDX)
    assert len(whole.texts) == 30
    assert len(set(whole.texts)) > 20, "samples differ"
    for i in (0, 3, 7):
        alone = made.write(codes[i : i + 1], IDX[i : i + 1])
        assert alone.texts == whole.texts[3 * i : 3 * i + 3]
        assert alone.scores.tolist() == whole.scores[3 * i : 3 * i + 3].tolist()
    assert captioner(model, top_k=50).write(codes, IDX).texts == whole.texts[::3], "sample 0 is the same"
    order = [4, 2, 9, 0]
    turned = made.write(codes[order], [IDX[i] for i in order])
    assert turned.texts == [t for i in order for t in whole.texts[3 * i : 3 * i + 3]]
    assert not equal(
        captioner(model, top_k=50).write(codes, IDX[::-1]), captioner(model, top_k=50).write(codes, IDX)
    )


def test_no_picture_no_caption(model: Path, codes: np.ndarray) -> None:
    assert captioner(model).write(codes[:0], []).texts == []
    assert captioner(model).score(codes[:0], []).texts == []
    assert captioner(model).encode(np.zeros((0, 16, 16, 3), np.uint8)).shape == (0, 16)


def best_of_beam(gpt: GPT, codes: np.ndarray, width: int) -> list[tuple[list[int], float]]:
    """A beam search in plain Python."""
    beams: list[tuple[list[int], float, bool]] = [([], 0.0, False)]
    for step in range(T):
        found = []
        for ids, score, ended in beams:
            if ended:
                found.append((ids, score, True))
                continue
            log_p = confined(next_log_p(gpt, codes, ids), step)
            for chosen in np.argsort(-log_p)[:width]:
                words = ids if chosen == 0 else [*ids, int(chosen)]
                found.append((words, score + log_p[chosen], chosen == 0))
        beams = sorted(found, key=lambda beam: -beam[1])[:width]
    return [(ids, score) for ids, score, _ in beams]


def test_a_beam_finds_the_likeliest_captions(model: Path, gpt: GPT, codes: np.ndarray) -> None:
    made = captioner(model, beam=3, number=2)
    found = made.write(codes, IDX)
    greedy = captioner(model).write(codes, IDX)
    for i in range(len(IDX)):
        expected = best_of_beam(gpt, codes[i], 3)[:2]
        assert found.texts[2 * i : 2 * i + 2] == [made.tokenizer.caption(ids) for ids, _ in expected]
        assert found.scores[2 * i : 2 * i + 2] == pytest.approx([s for _, s in expected], abs=1e-4)
    assert (found.scores[::2] >= greedy.scores - 1e-4).mean() > 0.8
    assert (found.scores[::2] > greedy.scores + 1e-3).any()


def test_scores_of_given_captions_are_teacher_forced(model: Path, gpt: GPT, codes: np.ndarray) -> None:
    made = captioner(model)
    texts = ["红色杯子", "蓝", "一把绿色圆点的雨伞和帽子"] * 3 + ["黄色t恤"]
    found = made.score(codes, texts)
    for i, ids in enumerate(made.tokenizer.encode(texts)):
        wanted = [*ids, 0][:T]
        expected = sum(next_log_p(gpt, codes[i], wanted[:j])[t] for j, t in enumerate(wanted))
        assert found.scores[i] == pytest.approx(expected, abs=1e-4)
        assert found.num_tokens[i] == len(wanted)


def test_a_written_caption_has_the_score_of_a_given_one(model: Path, gpt: GPT, codes: np.ndarray) -> None:
    """Of captions whose text becomes the same ids again."""
    made = captioner(model, top_k=50, number=8)
    written = made.write(codes, IDX)
    again = made.score(codes.repeat(8, 0), written.texts)
    same = again.num_tokens == written.num_tokens
    assert same.sum() > 20
    close = np.isclose(again.scores, written.scores, atol=1e-4)
    assert close[same].mean() > 0.9, "a word piece may be written that no text becomes"


def test_damaged_weights_are_named(model: Path, codes: np.ndarray) -> None:
    made = captioner(model)
    made._gpt._positions = made._gpt._positions * float("nan")
    with pytest.raises(RuntimeError, match="not finite"):
        made.write(codes, IDX)


def test_settings_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="--beam 3: draws nothing"):
        CaptionSampling(beam=3, top_k=5)
    with pytest.raises(ValueError, match="with --top-k 1 all captions of a picture are the same"):
        CaptionSampling().check(2)
    with pytest.raises(ValueError, match="a beam has the best 2"):
        CaptionSampling(beam=2).check(3)
    for wrong in (0, 17):
        with pytest.raises(ValueError, match="--beam: got"):
            CaptionSampling(beam=wrong)
