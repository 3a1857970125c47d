"""The sample in styles: plain pictures stay as they were, unseen styles stay unseen, the judge reads them."""

import hashlib
import itertools

import numpy as np
import pytest

from painter_core.sample.captions import (
    VALUES,
    Attributes,
    held_out,
    parse_caption,
    unseen_style,
)
from painter_core.sample.judge import Judge, score
from painter_core.sample.pictures import SampleRow, draw, sample_row
from painter_core.sample.styles import FIRST, STYLES
from tests.support.styles import parse_styled_caption

SEED, NUM_ROWS = 70_002, 160
ALL = tuple(STYLES)
PLAIN_SHA256 = "471c07d808a76a506cfe22f719426b8d31d2690f519e4f84920bac0cd14d5c12"  # before there were styles


def rows(split: str, styles: tuple[str, ...] = ALL) -> list[SampleRow]:
    return [sample_row(SEED, index, split=split, styles=styles) for index in range(NUM_ROWS)]  # type: ignore[arg-type]


def test_the_plain_sample_is_what_it_was() -> None:
    digest = hashlib.sha256()
    for index in range(60):
        row = sample_row(3, index, split=("train", "valid", "held_out")[index % 3])  # type: ignore[arg-type]
        digest.update(row.image.tobytes() + row.text.encode())
    assert digest.hexdigest() == PLAIN_SHA256


@pytest.mark.parametrize("split", ["train", "valid", "held_out"])
def test_a_kind_in_its_unseen_style_is_held_out_and_nothing_else(split: str) -> None:
    found = rows(split)
    assert {row.attributes.style == unseen_style(row.attributes.kind) for row in found} == {
        split == "held_out"
    }
    assert not any(held_out(row.attributes) for row in found), "the rest of a combination is known"
    assert {row.attributes.style for row in found} == set(ALL)
    assert all(parse_styled_caption(row.text) == row.attributes for row in found)


def test_every_style_is_unseen_of_some_kinds_and_seen_of_others() -> None:
    pairs = {
        (kind, style) for kind, style in itertools.product(VALUES["kind"], ALL) if unseen_style(kind) == style
    }
    assert len(pairs) == len(VALUES["kind"])
    assert {style for _, style in pairs} == set(ALL)


def test_a_picture_in_the_first_style_is_the_plain_one() -> None:
    plain, styled = sample_row(SEED, 4, split="train"), sample_row(SEED, 4, split="train", styles=ALL)
    assert styled.text.partition(",")[2] == plain.text
    assert vars(styled.attributes) == vars(plain.attributes) | {"style": styled.attributes.style}
    of_all = [_drawn(style) for style in ("", *ALL)]
    assert np.array_equal(of_all[0], of_all[1])
    assert all(np.abs(a - b).mean() > 2 for a, b in itertools.combinations(of_all[1:], 2))
    assert ALL[0] == FIRST


def _drawn(style: str) -> np.ndarray:
    goods = Attributes(kind="包", colour="蓝", pattern="条纹", background="白", size="大", style=style)
    return np.asarray(draw(goods, rng=np.random.default_rng(1), image_size=64), np.float32)


def test_a_caption_names_its_style_or_none() -> None:
    row = sample_row(SEED, 2, split="train", styles=ALL)
    with pytest.raises(ValueError, match="expected a sentence such as"):
        parse_caption(row.text)
    with pytest.raises(ValueError, match="expected a style and a sentence"):
        parse_styled_caption(row.text.partition(",")[2])


@pytest.mark.long
def test_the_judge_names_the_style() -> None:
    two = ("平涂", "漫画")  # the most alike; four take twice the time
    found = [row for split in ("train", "held_out") for row in rows(split, two)]
    judge = Judge(styles=two)
    read, wanted = (
        judge.read(np.stack([np.asarray(row.image) for row in found])),
        [r.attributes for r in found],
    )
    result = score(read, wanted)
    assert set(result.attributes) == {*VALUES, "style"}
    assert min(result.attributes.values()) >= 0.95, result
    both = [(r.kind, r.style) == (w.kind, w.style) for r, w in zip(read, wanted, strict=True)]
    assert np.mean(both) >= 0.98
