"""Word pieces put together as a reader expects: no blanks between Hanzi, blanks between words of letters.

The blanks of a text are not among its tokens. Where two words of letters or digits meet there was one; at
punctuation it is where such a text has it in print: after `,` and `;`, around brackets, before a word.
"""

from collections.abc import Iterable

CLOSING, OPENING = ")]}", "([{"
PAUSES = ",.!?;:"
# the ranges that BERT takes for Hanzi, each of which is a word
_HANZI = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)  # fmt: skip


def join_tokens(tokens: Iterable[str]) -> str:
    """The text of word pieces; `##` marks one that goes on with the word before it."""
    text = ""
    for token in tokens:
        if token.startswith("##") and len(token) > 2:
            text += token[2:]
        else:
            text += (" " if text and token and _blank_between(text, token[0]) else "") + token
    return text


def _blank_between(before: str, after: str) -> bool:
    last = before[-1]
    if _of_word(after):
        if _of_word(last) or last in CLOSING:
            return True
        # 3.5 and 1,000 are numbers; `a, b` is not
        return last in PAUSES and len(before) > 1 and _of_word(before[-2]) and not after.isdigit()
    return after in OPENING and _of_word(last)


def _of_word(character: str) -> bool:
    """Whether it is a letter or digit of a script that separates words by blanks."""
    return character.isalnum() and not any(first <= ord(character) <= last for first, last in _HANZI)
