"""Captions to text ids: BERT WordPiece without special tokens, checks of a vocabulary, the built-in one."""

import json
from pathlib import Path

import numpy as np
import pytest

from painter_core.text.ids import text_ids
from painter_core.text.tokenizer import SPECIAL, Tokenizer, builtin_tokenizer, from_vocab, load_tokenizer
from tests.golden.formula import captions, tokens, vocab

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[",
    "]",
    "pad",
    "红",
    "色",
    "t",
    "shirt",
    "##s",
    "-",
    "1",
    "##2",
]
SMALL = from_vocab("\n".join(WORDS).encode())
CODEBOOK = 512


def words(text: str, tokenizer: Tokenizer = SMALL) -> list[str]:
    """Tokens of a caption, by the small vocabulary."""
    return [WORDS[i] for i in tokenizer.encode([text])[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("红色T-shirts12", ["红", "色", "t", "-", "[UNK]"]),  # no piece ##1
        ("红色 T - SHIRTS", ["红", "色", "t", "-", "shirt", "##s"]),
        ("红1色", ["红", "1", "色"]),
        ("12", ["1", "##2"]),
        ("shírt", ["shirt"]),  # accents are stripped
        ("[PAD] 红", ["[", "pad", "]", "红"]),  # plain text
        ("[SEP]", ["[", "[UNK]", "]"]),
        ("绿👕", ["[UNK]", "[UNK]"]),
        ("红\x00色\u200d", ["红", "色"]),  # control and format characters vanish
        ("红\u3000色\n", ["红", "色"]),
        ("shirt" * 21, ["[UNK]"]),  # above 100 characters
        ("", []),
        (" \t\u200b", []),
    ],
)
def test_wordpiece(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_full_width_is_kept_apart() -> None:
    assert words("\uff11") == ["[UNK]"]  # case 60: no folding beyond BERT's


def test_decode_is_what_the_model_saw() -> None:
    assert SMALL.decode(SMALL.encode(["红色 T-Shirts 绿"])[0]) == "红色t-shirts"
    with pytest.raises(ValueError, match=r"id 16: expected 0\.\.15"):
        SMALL.decode([8, 16])


def test_golden_captions() -> None:
    tokenizer = from_vocab(("\n".join(vocab()) + "\n").encode())
    assert tokenizer.vocab_size == 21128
    expected = tokens(4, 32, 16384 + 1000, 16384 + 20000, salt=3)
    found = text_ids(tokenizer, captions(expected), text_len=32, codebook_size=16384)
    np.testing.assert_array_equal(found.ids, expected)


def test_text_ids_are_cut_and_padded() -> None:
    found = text_ids(SMALL, ["红", "", "红色" * 5, "绿绿红绿绿绿"], text_len=4, codebook_size=CODEBOOK)
    red, colour = WORDS.index("红"), WORDS.index("色")
    assert found.ids.dtype == np.int64
    assert (found.ids - CODEBOOK).tolist() == [
        [red, 0, 0, 0],
        [0, 0, 0, 0],
        [red, colour, red, colour],
        [1, 1, red, 1],
    ]
    assert found.num_tokens.tolist() == [1, 0, 10, 6]
    assert found.num_unk.tolist() == [0, 0, 0, 3]
    assert text_ids(SMALL, [], text_len=4, codebook_size=CODEBOOK).ids.shape == (0, 4)


def test_carriage_returns_do_not_change_a_vocabulary() -> None:
    crlf = from_vocab("\r\n".join(WORDS).encode() + b"\r\n")
    assert crlf.encode(["红色T-shirts"]) == SMALL.encode(["红色T-shirts"])
    assert crlf.vocab_size == SMALL.vocab_size == len(WORDS)
    assert crlf.sha256 != SMALL.sha256


def test_a_token_of_white_space_is_no_blank_line() -> None:
    # the vocabulary of bert-base-chinese has U+2028 between its punctuation
    assert from_vocab("\n".join([*WORDS, "\u2028", "绿"]).encode()).encode(["绿"]) == [[len(WORDS) + 1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n".join([*WORDS, "红"]).encode(), r"line 17: '红' stands on line 9 already"),
        ("\n".join([*WORDS[:7], "", *WORDS[7:]]).encode(), r"line 8: blank"),
        (b"\xef\xbb\xbf" + "\n".join(WORDS).encode(), "byte order mark"),
        ("\n".join(WORDS).encode("gb18030"), r"not UTF-8 at byte \d+"),
        ("\n".join(w for w in WORDS if w != "[UNK]").encode(), r"\[UNK\] anywhere, got ids 0 and None"),
        ("\n".join(WORDS[1:]).encode(), r"\[PAD\] at id 0"),
        (b"", "line 1: blank"),
    ],
)
def test_damaged_vocabularies_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path / "vocab.txt") in str(caught.value)


def tokenizer_json(**changes: object) -> dict:
    """A tokenizer.json as transformers writes it."""
    added = [{"id": i, "content": t, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False} for i, t in enumerate(SPECIAL)]  # fmt: skip
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100, "vocab": {w: i for i, w in enumerate(WORDS)}}  # fmt: skip
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                  "strip_accents": None, "lowercase": True}  # fmt: skip
    template = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    spec = {"version": "1.0", "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0,
            "direction": "Right"}, "padding": None, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": template, "decoder": None,
            "model": model}  # fmt: skip
    return spec | changes


def test_tokenizer_json_equals_vocab_txt(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    (tmp_path / "vocab.txt").write_text("unused")
    loaded = load_tokenizer(tmp_path)
    for text in ("红色T-shirts 12", "[PAD] [CLS] 绿", ""):
        assert loaded.encode([text]) == SMALL.encode([text])
    assert loaded.vocab_size == len(WORDS)
    loaded.save(tmp_path)
    assert load_tokenizer(tmp_path / "tokenizer.json").sha256 == loaded.sha256


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{", "not JSON"),
        (json.dumps([1]), "model.type is None"),
        (json.dumps(tokenizer_json(model={"type": "BPE"})), "model.type is 'BPE'"),
        (
            json.dumps(tokenizer_json(model={"type": "WordPiece", "vocab": {"[PAD]": 0, "[UNK]": 2}})),
            r"not 0\.\.1",
        ),
    ],
)
def test_other_tokenizers_are_refused(spec: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(spec)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer\.json and no vocab\.txt"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"x\.txt: no such file"):
        load_tokenizer(tmp_path / "x.txt")


def test_builtin_vocabulary(tmp_path: Path) -> None:
    tokenizer = builtin_tokenizer()
    text = "女式红色连衣裙,V领 cotton100%!"
    ids = tokenizer.encode([text])[0]
    assert tokenizer.unk_id not in ids
    assert tokenizer.decode(ids) == text.lower().replace(" ", "")
    hanzi = [token for token in tokenizer.content.decode().split("\n") if "\u4e00" <= token[:1] <= "\u9fff"]
    assert len(hanzi) == 6763  # GB 2312
    assert hanzi[0] == "啊"
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.sha256 == tokenizer.sha256
    assert loaded.vocab_size == tokenizer.vocab_size == len(tokenizer.content.decode().splitlines())
