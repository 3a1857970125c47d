"""A prefix and suffix of captions: nothing by default, and never longer than what a model sees."""

import pytest

from painter_core.text.prompt_style import PLAIN, PromptStyle
from painter_core.text.tokenizer import builtin_tokenizer

BOTH = PromptStyle(prompt_prefix="水彩画,", prompt_suffix=",风景")


def test_what_is_put_around_a_caption() -> None:
    assert BOTH.of("红色的杯子") == "水彩画,红色的杯子,风景"
    assert PLAIN.of(" 红 ") == " 红 "
    assert BOTH
    assert not PLAIN


def test_the_identity_says_it_and_is_read_again() -> None:
    assert PLAIN.identity() == {}
    assert BOTH.identity() == {"prompt": {"prefix": "水彩画,", "suffix": ",风景"}}
    for style in (PLAIN, BOTH, PromptStyle(prompt_suffix="x")):
        assert PromptStyle.of_identity(style.identity() | {"seed": 1}) == style


def test_captions_keep_room() -> None:
    tokenizer = builtin_tokenizer()
    taken = len(tokenizer.encode([BOTH.of("")])[0])
    assert taken > 3
    BOTH.check_room(tokenizer, taken + 1)
    PLAIN.check_room(tokenizer, 1)
    with pytest.raises(ValueError, match=rf"{taken} tokens, and the model sees {taken}: there is no room"):
        BOTH.check_room(tokenizer, taken)
