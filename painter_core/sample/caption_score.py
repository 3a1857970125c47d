"""How well captions name what the sample's pictures show, by the grammar that made their own captions."""

from collections.abc import Sequence

from painter_core.sample.captions import VALUES, Attributes, parse_caption, parse_written
from painter_core.sample.judge import Score, score

NONE = Attributes(**dict.fromkeys(VALUES, ""))


def score_captions(written: Sequence[str], own: Sequence[str]) -> Score:
    """Shares of the attributes that are named right.

    Args:
        written: captions of a model; one that is no sentence of the grammar has nothing right.
        own: the pictures' captions.

    Raises:
        ValueError: the lists differ in length, or are empty, or an own caption is not one of the sample.
    """
    return score([_read(text) for text in written], [parse_caption(text) for text in own])


def _read(text: str) -> Attributes:
    try:
        return parse_written(text)
    except ValueError:
        return NONE
