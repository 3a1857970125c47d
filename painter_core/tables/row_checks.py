"""What idx, caption, picture cell and other text of a row must be; each check raises Reject."""

import unicodedata

from painter_core.errors import Reject
from painter_core.tables.rejects import MAX_IDX_CHARS
from schemas.pairs import MAX_CELL_BYTES


def check_idx(idx: str | None, column: str = "idx") -> None:
    """Raises Reject unless idx can be a key in any output table."""
    if not idx or not idx.strip():
        raise Reject("idx_invalid", "null, empty or blank", column)
    if len(idx) > MAX_IDX_CHARS:
        raise Reject("idx_invalid", f"{len(idx):,} characters, at most {MAX_IDX_CHARS:,}", column)
    if any(c in idx for c in "\t\r\n"):
        raise Reject("idx_invalid", "holds a tab or a line end", column)


def check_text(text: str | None, column: str = "text") -> None:
    """Raises Reject for a caption that shows nothing: null, blank, or format characters only."""
    if not text or all(c.isspace() or unicodedata.category(c) in ("Cf", "Cc") for c in text):
        raise Reject("text_empty", "null, blank or invisible characters only", column)


def check_cell(cell: str | bytes | None, column: str) -> None:
    """Raises Reject for a picture cell that is not worth carrying on."""
    if not cell:
        raise Reject("img_empty", "no bytes", column)
    if len(cell) > MAX_CELL_BYTES:
        raise Reject("cell_too_large", f"{len(cell):,} bytes, at most {MAX_CELL_BYTES:,}", column)


def check_codes_cell(cell: str | bytes | None, column: str) -> None:
    """Raises Reject for a cell without codes; what they must be the model says."""
    if not cell:
        raise Reject("codes_invalid", "no codes, or a null among them", column)


def check_seen(num_tokens: int, num_unk: int, length: int, column: str) -> None:
    """Raises Reject for a caption of which a model sees nothing.

    Args:
        num_tokens: of the whole caption.
        num_unk: unknown ones among those that the model is given.
        length: tokens that the model is given at most.
    """
    if num_tokens == 0:
        raise Reject("text_empty", "leaves no token", column)
    if num_unk == min(num_tokens, length):
        raise Reject("text_all_unk", f"all of {num_unk} tokens are unknown to the model", column)


def check_tsv_text(text: str | None, column: str) -> None:
    """Raises Reject for text that a line of a TSV output cannot hold."""
    if any(c in (text or "") for c in "\t\r\n"):
        raise Reject("text_control", "a tab or a line end inside; use a .parquet output", column)
