"""The encoding of a text file, by its first bytes: what is named as one and is another is refused."""

import codecs
import re

from painter_core.files.storage import redact
from painter_core.tables.columns import Encoding
from painter_core.tables.magic import is_binary
from painter_core.text.escape import visible

MARK = "\ufeff"  # a byte order mark
_LINES = 100  # that are looked at as GB18030
_CJK = re.compile("[\u4e00-\u9fff]")
_CHINESE = re.compile("[\u2010-\u203b\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_FEWEST_CJK = 4  # of UTF-8; characters of GB18030 do not make so many of them by chance
_SHOWN_CHARS = 60


def after_mark(url: str, head: bytes, encoding: Encoding) -> int:
    """Where a text begins: behind its byte order mark, if it has one.

    A few damaged lines are no matter here; they become rejects later.

    Args:
        head: the first bytes of the file, all of it or so many that the last character may be cut.

    Raises:
        ValueError: the file as a whole has another encoding; names it, and the flag.
    """
    mark = MARK.encode(encoding)
    start = len(mark) if head.startswith(mark) else 0
    if head[:4096].count(0) > len(head[:4096]) // 4:
        raise ValueError(f"{redact(url)}: this is UTF-16 or binary; convert it to UTF-8 with iconv")
    if encoding == "utf-8":
        _check_utf8(url, head[start:], start)
    elif len(_CJK.findall(_decoded(head, "utf-8"))) >= _FEWEST_CJK:
        raise ValueError(f"{redact(url)}: this is UTF-8: leave out --encoding {encoding}")
    return start


def _check_utf8(url: str, head: bytes, start: int) -> None:
    at = _damage(head, "utf-8")
    if at is None:
        return
    sample = head.decode("utf-8", "replace")
    lines = sample.removesuffix("\n").split("\n")
    damaged = sum("\ufffd" in line for line in lines)
    if damaged > len(lines) // 2 and sample.count("\ufffd") * 2 > sum(not c.isascii() for c in sample):
        what = f"not UTF-8 at byte {start + at:,}, nor in most places after it"
        advice = "convert it with iconv"
        if is_binary(head):
            advice = "it is binary data and no text. A table is a TSV in UTF-8 or Parquet"
        elif first := _as_gb18030(head):
            advice = (
                "it looks like GB18030 (GBK, GB2312), which is read with --encoding gb18030: its first line "
                f"would be {visible(first.expandtabs(1)[:_SHOWN_CHARS])!r}"
            )
        raise ValueError(f"{redact(url)}: {what}; {advice}")


def _damage(head: bytes, encoding: str) -> int | None:
    """Where bytes are not of an encoding; the last character may be cut."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError as error:
        return error.start
    return None


def _decoded(head: bytes, encoding: str) -> str:
    """The text, or nothing if it is not of this encoding."""
    return "" if _damage(head, encoding) is not None else head.decode(encoding, "ignore")


def _as_gb18030(head: bytes) -> str:
    """The first line, if nearly all lines are GB18030 and what is not ASCII is Chinese for the most part."""
    lines = [line for line in head.split(b"\n")[:_LINES] if line.strip(b"\r")]
    text = [_decoded(line, "gb18030") for line in lines]
    foreign = sum(not character.isascii() for line in text for character in line)
    chinese = sum(len(_CHINESE.findall(line)) for line in text)
    return text[0] if text.count("") * 10 <= len(lines) and chinese * 10 > foreign * 9 else ""
