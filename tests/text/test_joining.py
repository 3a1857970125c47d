"""Word pieces put together as a reader expects."""

import pytest

from painter_core.text.joining import join_tokens
from painter_core.text.tokenizer import builtin_tokenizer, from_vocab

CASES = {
    "红色的t恤": "红 色 的 t 恤",
    "nike air max跑鞋": "nike air max 跑 鞋",
    "unaffable": "una ##ff ##able",
    "iphone 12手机壳": "iphone 12 手 机 壳",
    "3.5mm耳机,1,000个": "3 . 5 ##mm 耳 机 , 1 , 000 个",
    "a, b; c": "a , b ; c",
    "白底,大号": "白 底 , 大 号",
    "coat (new) for men": "coat ( new ) for men",
    "羽绒服(新款)": "羽 绒 服 ( 新 款 )",
    "100%棉": "100 % 棉",
    "wi-fi路由器": "wi - fi 路 由 器",
    "##": "##",
    "": "",
}


@pytest.mark.parametrize(("text", "tokens"), CASES.items())
def test_blanks_stand_where_a_reader_expects_them(text: str, tokens: str) -> None:
    assert join_tokens(tokens.split()) == text


@pytest.mark.parametrize("text", ["红色条纹t恤", "一双nike air跑鞋", "白底,大号的杯子", "new coat for men"])
def test_a_caption_comes_back(text: str) -> None:
    tokenizer = builtin_tokenizer()
    (ids,) = tokenizer.encode([text])
    assert tokenizer.caption([*ids, 0, 0, 77]) == text
    assert tokenizer.caption(ids) == text


def test_what_is_no_text_is_known() -> None:
    vocab = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "unused1", "红"]
    assert from_vocab("\n".join(vocab).encode()).no_words() == [1, 2, 3, 4, 5]
    assert builtin_tokenizer().no_words() == [1, 2, 3, 4]
