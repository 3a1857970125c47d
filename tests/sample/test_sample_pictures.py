"""The sample: pictures and captions are functions of (seed, split, index), and what is held out stays out."""

import itertools

import numpy as np
import pytest

from painter_core.sample.captions import (
    SYNONYMS,
    VALUES,
    Attributes,
    all_combinations,
    caption,
    held_out,
    parse_caption,
)
from painter_core.sample.pictures import sample_row
from painter_core.sample.scenes import drawn_scene

NUM_ROWS = 200
NUM_CAPTIONS = 6000
TEXT_LEN = 32
SPLITS = ("train", "valid", "held_out")


@pytest.fixture(scope="module")
def captions() -> list[tuple[Attributes, str]]:
    rng = np.random.default_rng(0)
    combinations = all_combinations()
    chosen = (combinations[i % len(combinations)] for i in range(NUM_CAPTIONS))
    return [(attributes, caption(attributes, rng=rng)) for attributes in chosen]


def test_a_caption_is_parsed_back_to_its_attributes(captions: list[tuple[Attributes, str]]) -> None:
    assert all(parse_caption(text) == attributes for attributes, text in captions)
    assert len({text for _, text in captions}) > 0.9 * NUM_CAPTIONS


def test_captions_fit_the_text_length_in_plain_characters(captions: list[tuple[Attributes, str]]) -> None:
    texts = [text for _, text in captions]
    # WordPiece makes at most one token of a character and none of a space, whatever the vocabulary.
    assert max(len(text.replace(" ", "")) for text in texts) <= TEXT_LEN
    for character in set("".join(texts)) - set(map(chr, range(32, 127))):
        assert "一" <= character <= "龥"
        character.encode("gb2312")


def test_a_word_means_one_value_only() -> None:
    for values in SYNONYMS.values():
        words = [word for synonyms in values.values() for word in synonyms]
        assert len(words) == len(set(words))


@pytest.mark.parametrize("text", ["", "红色T恤", "白底的大号红色条纹T恤!", "白底的大号金色条纹T恤"])
def test_other_text_is_no_caption(text: str) -> None:
    with pytest.raises(ValueError, match="expected a sentence such as"):
        parse_caption(text)


def test_a_tenth_of_the_combinations_is_held_out_but_no_value_and_no_pair() -> None:
    combinations = all_combinations()
    assert len(combinations) == len(set(combinations)) == 2400
    kept = [a for a in combinations if not held_out(a)]
    assert 0.08 < 1 - len(kept) / len(combinations) < 0.12
    for one, two in itertools.combinations(VALUES, 2):
        pairs = {(getattr(a, one), getattr(a, two)) for a in kept}
        assert pairs == set(itertools.product(VALUES[one], VALUES[two]))


def test_held_out_is_the_same_for_ever() -> None:
    # Literals: a model trained yesterday must not find its test pictures among today's training pictures.
    assert sum(map(held_out, all_combinations())) == 246
    names = ["".join(vars(a).values()) for a in all_combinations() if held_out(a)]
    assert names[:3] == ["T恤红条纹白大", "T恤红条纹浅蓝大", "T恤红圆点米小"]


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_shows_its_own_combinations_only(split: str) -> None:
    rows = [sample_row(3, index, split=split) for index in range(NUM_ROWS)]
    assert {held_out(row.attributes) for row in rows} == {split == "held_out"}
    assert all(parse_caption(row.text) == row.attributes for row in rows)
    assert len({row.idx for row in rows}) == NUM_ROWS


def test_rows_are_functions_of_seed_split_and_index() -> None:
    one, again = (sample_row(3, 17, split="train") for _ in range(2))
    assert (one.idx, one.text, one.image.tobytes()) == (again.idx, again.text, again.image.tobytes())
    others = [
        sample_row(4, 17, split="train"),
        sample_row(3, 17, split="valid"),
        sample_row(3, 18, split="train"),
    ]
    assert one.image.tobytes() not in {other.image.tobytes() for other in others}


@pytest.mark.parametrize("image_size", [64, 128, 256])
def test_a_picture_is_the_same_scene_at_every_size(image_size: int) -> None:
    row = sample_row(3, 5, split="train", image_size=image_size)
    assert (row.image.mode, row.image.size) == ("RGB", (image_size, image_size))
    assert drawn_scene(3, 5, image_size).size == (image_size, image_size)
    small = np.asarray(sample_row(3, 5, split="train").image, np.float32)
    again = np.asarray(row.image.reduce(image_size // 64), np.float32)
    assert np.abs(small - again).mean() < 6


def test_scenes_are_many_and_reproducible() -> None:
    scenes = [drawn_scene(3, index, 64).tobytes() for index in range(50)]
    assert len(set(scenes)) == 50
    assert scenes[7] == drawn_scene(3, 7, 64).tobytes()
