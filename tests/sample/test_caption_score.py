"""Captions of the sample's pictures, as a model writes them, are read by the grammar and scored."""

import numpy as np
import pytest

from painter_core.sample.caption_score import score_captions
from painter_core.sample.captions import all_combinations, caption, parse_caption, parse_written
from painter_core.text.tokenizer import builtin_tokenizer


def test_what_the_tokenizer_leaves_of_a_caption_is_read() -> None:
    rng, tokenizer = np.random.default_rng(1), builtin_tokenizer()
    for attributes in all_combinations()[::17]:
        text = caption(attributes, rng=rng)
        (ids,) = tokenizer.encode([text])
        assert parse_written(tokenizer.caption(ids)) == attributes
    with pytest.raises(ValueError, match="expected a sentence"):
        parse_caption("白底的大号红色条纹t恤")
    with pytest.raises(ValueError, match="expected a sentence"):
        parse_written("红色的鱼")


def test_shares_are_of_single_attributes_and_of_whole_captions() -> None:
    own = ["白底的大号红色条纹T恤"] * 4
    written = ["大款条纹圆领t恤,大红色,白背景", "白底的大号蓝色条纹t恤", "白底的小号蓝色条纹裤子", "红红红"]
    found = score_captions(written, own)
    assert found.num_pictures == 4
    assert found.single == pytest.approx((5 + 4 + 2 + 0) / 20)
    assert found.all_right == 0.25
    assert found.attributes == pytest.approx({
        "kind": 0.5, "colour": 0.25, "pattern": 0.75, "background": 0.75, "size": 0.5,
    })  # fmt: skip
