"""Captions of the sample in styles, read back."""

import dataclasses

from painter_core.sample.captions import Attributes, parse_caption
from painter_core.sample.styles import STYLES


def parse_styled_caption(text: str) -> Attributes:
    """The same of a caption that begins with a style.

    Raises:
        ValueError: the text is no such sentence.
    """
    word, _, rest = text.partition(",")
    for name, style in STYLES.items():
        if word in style.words:
            return dataclasses.replace(parse_caption(rest), style=name)
    raise ValueError(f"caption: got {text!r}, expected a style and a sentence (see STYLES and ORDERS)")
