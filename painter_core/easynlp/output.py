"""The cells of EasyNLP's output lines: made byte for byte as EasyNLP makes them, and read back.

A line is the columns of --output_schema, then those of --append_cols, with tabs between. The picture cell is
Python's repr of a list of base64 strings, `['iVBOR...', ...]`; the text is what the model saw, not what was
given.
"""

import base64
import io
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from painter_core.errors import Reject
from painter_core.text.tokenizer import Tokenizer

COLUMNS = ("idx", "text", "gen_imgbase64")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


def model_text(tokenizer: Tokenizer, text: str, text_len: int) -> str:
    """A caption as EasyNLP writes it: lower-cased, cut at text_len tokens, unknown ones and all spaces left
    out.
    """
    return tokenizer.decode(tokenizer.encode([text])[0][:text_len])


def encode_picture(picture: np.ndarray) -> str:
    """uint8 (S, S, 3) -> PNG in base64, with Pillow's default compression as in EasyNLP (our own tables' is
    faster).
    """
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def picture_cell(images: Sequence[str]) -> str:
    """The cell that holds all pictures of a row, base64 strings."""
    return str(list(images))


def read_cell(cell: str) -> list[str]:
    """The base64 strings in a picture cell, of EasyNLP's form or of ours (one plain string).

    Raises:
        ValueError: it is neither.
    """
    text = cell.strip()
    parts = text[2:-2].split("', '") if text.startswith("['") and text.endswith("']") else [text]
    for part in parts:
        if not _BASE64.fullmatch(part):
            raise ValueError(
                f"picture cell: {part[:40]!r} is no base64, in a cell that starts with {text[:20]!r}"
            )
    return parts


def cells_of_output(cell: str | bytes | None) -> list[str | bytes | None]:
    """The picture cells in a cell of an output table: the cell itself, or those in EasyNLP's list."""
    if not isinstance(cell, str) or not cell.lstrip().startswith("["):
        return [cell]
    try:
        return [*read_cell(cell)]
    except ValueError as error:
        raise Reject("b64_repr", f"not a list as EasyNLP writes it: {error}") from None
