"""The text half of a sequence: captions -> text ids as the GPT sees them.

Shapes: N captions, text_len ids each. An id is the BERT id + codebook_size: ids 0..codebook_size-1 are codes.
"""

from dataclasses import dataclass

import numpy as np

from painter_core.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class TextIds:
    """Text ids of some captions, and what was noticed on the way."""

    ids: np.ndarray
    """int64 (N, text_len), offset by codebook_size, cut or padded with [PAD] (BERT id 0, attended)."""
    num_tokens: np.ndarray
    """int64 (N,): tokens before cutting; 0 for a caption that leaves none."""
    num_unk: np.ndarray
    """int64 (N,): unknown tokens among the first text_len."""


def text_ids(tokenizer: Tokenizer, texts: list[str], *, text_len: int, codebook_size: int) -> TextIds:
    """Captions -> text ids, as EasyNLP builds them: no special tokens, right-padded with [PAD]."""
    tokens = tokenizer.encode(texts)
    ids = np.full((len(texts), text_len), codebook_size, np.int64)
    for row, line in zip(ids, tokens, strict=True):
        row[: len(line)] += np.asarray(line[:text_len], np.int64)
    return TextIds(
        ids=ids,
        num_tokens=np.array([len(line) for line in tokens], np.int64),
        num_unk=np.array([line[:text_len].count(tokenizer.unk_id) for line in tokens], np.int64),
    )
