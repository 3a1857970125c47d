"""Makes untrusted text safe to show in a terminal, a log or a page."""

import unicodedata


def visible(text: str) -> str:
    """The text, with characters written out that are invisible or change what is around them.

    Control characters (a terminal's escapes), format characters (bidi overrides, zero-width), line separators
    and lone surrogates, which no UTF-8 file can hold.
    """
    return "".join(map(_visible_character, text))


def cut(text: str, limit: int) -> str:
    """The same, cut after `limit` characters, with the whole length beside it."""
    head = visible(text[:limit])
    return head if len(text) <= limit else f"{head}… ({len(text):,} characters)"


def _visible_character(character: str) -> str:
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return f"⟨U+{ord(character):04X}⟩"
    return character
