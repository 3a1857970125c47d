"""The encoded picture in a table's cell: base64 text in any of its forms, or the bytes themselves.

Everything that can be wrong with a cell raises Reject with a reason of schemas.rejects.
"""

import binascii
import re
import string
from collections import Counter

from painter_core.errors import Reject
from schemas.pairs import MAX_CELL_BYTES

_WHITESPACE = b" \t\r\n\v\f"
_DATA_URI = re.compile(rb"data:[\w.+/-]*(?:;[\w.+=-]+)*;base64,", re.IGNORECASE)
_REPR = (b"b'", b'b"', b"['", b'["')
_URL_OR_PATH = re.compile(rb"[a-z][a-z0-9+]*://|[^\s]*\.(?:jpe?g|png|webp|gif|bmp|avif)$", re.IGNORECASE)
_BASE64_TEXT = re.compile(rb"\s*(?:data:|[A-Za-z0-9+/_-]{16})")
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/]")
_ALPHABET = string.ascii_letters.encode() + string.digits.encode() + b"+/"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def image_of_cell(cell: str | bytes | None, notes: Counter[str] | None = None) -> bytes:
    """The encoded picture in a table's cell: text is base64, bytes are the picture itself or base64.

    Base64 in either alphabet, with or without padding, in one line or several, with a `data:` prefix or none.
    EasyNLP's urlsafe_b64decode drops every byte outside the alphabet silently; here that is a Reject.

    Args:
        notes: counts what was put right, by names of schemas.rejects.WARNINGS.
    """
    if not cell:
        raise Reject("img_empty", "no bytes")
    if len(cell) > MAX_CELL_BYTES:
        raise Reject("cell_too_large", f"{len(cell):,} bytes, at most {MAX_CELL_BYTES:,}")
    if isinstance(cell, bytes):
        # a binary column may hold base64; no picture begins with 16 letters
        return _image_of_text(cell, notes) if _BASE64_TEXT.match(cell) else cell
    return _image_of_text(cell.encode("utf-8", "surrogatepass"), notes)


def _image_of_text(text: bytes, notes: Counter[str] | None) -> bytes:
    text = text.strip(_WHITESPACE)
    if text.startswith(_REPR):
        shown = text[:8].decode("ascii", "replace")
        raise Reject("b64_repr", f"starts with {shown!r}: write the base64 itself, b64encode(...).decode()")
    if _URL_OR_PATH.match(text[:2048]):
        shown = text[:60].decode("utf-8", "replace")
        raise Reject("img_unidentified", f"looks like a URL or a path: {shown!r}")
    if prefix := _DATA_URI.match(text):
        text = text[prefix.end() :].lstrip(_WHITESPACE)
        note(notes, "b64_data_uri")
    if (b"-" in text or b"_" in text) and (b"+" in text or b"/" in text):
        raise Reject("b64_mixed", "both -_ and +/ occur")
    image = _decode_base64(text.translate(_TO_STANDARD, b"\r\n\t"), notes)
    if not image:
        raise Reject("img_empty", "no base64, only white space or a prefix")
    return image


def _decode_base64(body: bytes, notes: Counter[str] | None) -> bytes:
    data = body.rstrip(b"=")
    if b"=" in data:
        at = data.index(b"=")
        raise Reject("b64_trailing", f"{len(body) - at:,} characters follow the padding at {at:,}")
    if data.translate(None, _ALPHABET):
        raise _foreign(data)
    if len(data) % 4 == 1:
        raise Reject("b64_invalid", f"{len(data):,} characters: one is missing or one too many")
    if len(body) % 4:
        note(notes, "b64_padding")
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def _foreign(data: bytes) -> Reject:
    found = _FOREIGN.search(data)
    assert found is not None
    at = found.start()
    character = data[at : at + 4].decode("utf-8", "replace")[0]
    hint = "; a form may have turned + into space" if character == " " else ""
    return Reject("b64_invalid", f"{character!r} at byte {at:,} is not base64{hint}")


def note(notes: Counter[str] | None, name: str) -> None:
    if notes is not None:
        notes[name] += 1
