"""Drawing styles of the sample, for which it is a sample of another kind: whether a model that has seen some
things in some styles draws a thing in a style that it never saw it in.

A style changes the tones of the goods and their outline; what they are, their colour, pattern and size can
still be read off. Off by default: then everything is drawn in the first style and no caption names it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Style:
    """How goods are drawn. Shares mix white into the goods' colour, black if they are below 0."""

    words: tuple[str, ...]
    """What a caption calls it."""
    body: float = 0.0
    trim: float = -0.22
    light: float = 0.9
    second: float = 0.8
    """Of the pattern's second tone."""
    outline: float = -0.42
    width: float = 1.0
    """Of the outline, times that of the first style."""


STYLES: dict[str, Style] = {
    "平涂": Style(words=("平涂风", "平涂插画")),
    "线稿": Style(
        words=("线稿风", "线描"), body=0.86, trim=0.86, light=0.94, second=0.0, outline=0.0, width=1.7
    ),
    "漫画": Style(words=("漫画风", "粗线漫画"), trim=-0.4, outline=-0.82, width=2.6),
    "贴纸": Style(words=("贴纸风", "贴画"), trim=-0.1, outline=0.72, width=4.5),
}
FIRST = next(iter(STYLES))
