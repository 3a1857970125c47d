"""Captions that are put together of several columns: "{title},{style}风格"."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from painter_core.errors import Reject

FLAG = "--caption-column-template"


@dataclass(frozen=True, kw_only=True)
class CaptionTemplate:
    """Text with columns in it."""

    pieces: tuple[tuple[str, str], ...]
    """Text, and the column that follows it; the last one may be empty."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of a text with {COLUMN} in it; {{ and }} are braces.

        Raises:
            ValueError: it has no column, or something else in its braces.
        """
        pieces = []
        try:
            for before, name, form, conversion in string.Formatter().parse(text):
                if name is not None and (not name.strip() or form or conversion):
                    raise ValueError(f"{{{name}}} is no column")
                pieces.append((before, name or ""))
        except ValueError as error:
            raise ValueError(
                f"{FLAG} {text!r}: {error}; expected text with names of columns in braces, as "
                '"{title},{style}风格"'
            ) from None
        if not any(name for _, name in pieces):
            raise ValueError(
                f"{FLAG} {text!r}: names no column; a caption that all rows share teaches nothing"
            )
        return cls(pieces=tuple(pieces))

    def columns(self, names: list[str]) -> list[str]:
        """Those of a table's columns that are read; a structure's for A.B."""
        return [top(name, names) for _, name in self.pieces if name]

    def missing(self, names: list[str]) -> str:
        """A column that a table lacks; empty if none."""
        return next((name for _, name in self.pieces if name and top(name, names) not in names), "")

    def of(self, record: Mapping[str, Any]) -> str:
        """The caption of a record; Reject if a column has no text for it."""
        return "".join(before + (_text(record, name) if name else "") for before, name in self.pieces)


def top(name: str, names: list[str]) -> str:
    """The column that a name means: itself, or A of A.B."""
    return name if name in names else name.partition(".")[0]


def _text(record: Mapping[str, Any], name: str) -> str:
    column = top(name, list(record))
    if column not in record:
        raise Reject("record_damaged", f"no {name!r} in {sorted(record)[:20]}", column)
    value = record[column]
    if column != name:
        value = value.get(name[len(column) + 1 :]) if isinstance(value, dict) else None
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise Reject("text_encoding", f"not UTF-8: {value[:16]!r}", column) from None
    if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
        raise Reject("record_damaged", f"{type(value).__name__}, expected text or a number", column)
    if value is None or not str(value).strip():
        raise Reject("text_empty", f"{name}: null or blank", column)
    return str(value).strip()
