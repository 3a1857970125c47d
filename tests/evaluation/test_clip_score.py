"""CLIP score and retrieval: right pairs rank first, shuffled ones are drawn from other captions only."""

import numpy as np
import pytest

from painter_core.evaluation.clip_score import AMONG, clip_rows, clip_score

P = 16


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def vectors(n: int, seed: int) -> np.ndarray:
    return unit(np.random.RandomState(seed).standard_normal((n, P)))


def named(n: int) -> tuple[list[str], list[str]]:
    return [f"r{i}" for i in range(n)], [f"caption {i}" for i in range(n)]


def test_right_pairs_come_first() -> None:
    texts = vectors(250, 1)
    found = clip_rows(texts, texts, *named(250))
    assert (found.rank == 0).all()
    assert (found.among == AMONG).all()
    np.testing.assert_allclose(found.score, 1, rtol=1e-6)
    score = clip_score(found)
    assert (score.recall_at_1, score.recall_at_10, score.among, score.pictures) == (1.0, 1.0, 100, 250)
    assert score.score == pytest.approx(1)
    assert score.shuffled == pytest.approx(0, abs=0.06)


def test_unrelated_pairs_come_where_chance_puts_them() -> None:
    found = clip_score(clip_rows(vectors(3000, 1), vectors(3000, 2), *named(3000)))
    assert found.recall_at_1 == pytest.approx(0.01, abs=0.006)
    assert found.recall_at_10 == pytest.approx(0.10, abs=0.02)
    assert found.score == pytest.approx(found.shuffled, abs=0.02)


def test_rank_counts_the_captions_that_are_as_near() -> None:
    """Three captions on a line: the picture stands at the second one."""
    texts = unit(np.array([[1, 0.0], [1, 0.1], [1, 3.0]]))
    images = np.repeat(texts[1:2], 3, 0)
    found = clip_rows(images, texts, *named(3))
    assert found.rank.tolist() == [1, 0, 2]
    assert found.among.tolist() == [3, 3, 3]


def test_a_judge_that_sees_no_difference_gets_the_last_place() -> None:
    same = unit(np.ones((150, P)))
    found = clip_score(clip_rows(same, same, *named(150)))
    assert (found.recall_at_1, found.recall_at_10) == (0.0, 0.0)
    assert found.score == pytest.approx(found.shuffled)


def test_other_captions_are_neither_equal_nor_of_the_same_idx() -> None:
    """Four samples of each prompt, two captions of each photograph, and a caption that two idx share."""
    idx = [f"p{i // 4}" for i in range(400)] + ["q0", "q0", "q1", "q1"]
    captions = [f"caption {i // 4}" for i in range(400)] + ["a", "b", "b", "c"]
    texts = vectors(len(idx), 3)
    _, first = np.unique(captions, return_index=True)
    texts = texts[[captions.index(c) for c in captions]]  # one vector a caption
    nearer = clip_rows(texts, texts, idx, captions)
    assert (nearer.rank == 0).all()  # an equal caption among the others would be as near
    assert (nearer.among == AMONG).all()
    # a picture that is nearest to the other caption of its own photograph does not lose a rank by that
    images = texts.copy()
    images[400] = texts[401]
    assert clip_rows(images, texts, idx, captions).among[400] == AMONG
    assert len(first) == 103


def test_small_tables_say_among_how_many() -> None:
    texts = vectors(5, 1)
    found = clip_score(clip_rows(texts, texts, *named(5)))
    assert found.among == 5
    few = clip_rows(texts, texts, ["a", "a", "b", "b", "c"], ["1", "2", "3", "3", "4"])
    assert few.among.tolist() == [3, 3, 4, 4, 4]


@pytest.mark.parametrize("n", [1, 7])
def test_one_caption_alone_has_no_baseline(n: int) -> None:
    found = clip_rows(vectors(n, 1), np.repeat(vectors(1, 2), n, 0), [f"r{i}" for i in range(n)], ["红"] * n)
    assert np.isnan(found.shuffled).all()
    score = clip_score(found)
    assert (score.shuffled, score.recall_at_1, score.recall_at_10, score.among) == (None, None, None, 1)


def test_it_is_the_same_every_time_and_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts = vectors(300, 1), vectors(300, 2)
    whole = clip_rows(images, texts, *named(300))
    monkeypatch.setattr("painter_core.evaluation.clip_score.CHUNK", 7)
    cut = clip_rows(images, texts, *named(300))
    np.testing.assert_array_equal(whole.rank, cut.rank)
    np.testing.assert_allclose(whole.score, cut.score, rtol=1e-12)
    np.testing.assert_allclose(whole.shuffled, cut.shuffled, rtol=1e-12)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 rows"):
        clip_score(clip_rows(np.zeros((0, P)), np.zeros((0, P)), [], []))
