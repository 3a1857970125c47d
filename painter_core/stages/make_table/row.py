"""A row on its way into a pairs table, or why it is none."""

from dataclasses import dataclass, replace
from typing import Self

from painter_core.errors import Reject


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A caption and its picture."""

    file: str
    """Where the row comes from, as rejects name it."""
    number: int
    """In that file, from 1."""
    byte_offset: int | None = None
    """Where its line begins, of a file of lines."""
    idx: str = ""
    text: str = ""
    image: bytes = b""
    """Encoded picture."""
    error: Reject | None = None
    """Why the row cannot be used."""

    def rejected(self, error: Reject) -> Self:
        """The row as one that is set aside."""
        return replace(self, image=b"", error=error)
