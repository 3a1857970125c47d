"""Captions of the sample: a small grammar in the tone of a shop, and back from a caption to what it asks for.

A caption names one value of every attribute, in one of several word orders and choices of words; no word
means two things, so that `parse_caption` finds the same attributes again. A fixed tenth of the combinations
is held out: no training picture shows one of them. A caption of the sample in styles (styles.py) begins with
the style's name; there, each kind has a style that no training picture shows it in.
"""

import hashlib
import itertools
import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from painter_core.sample.styles import STYLES

SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "kind": {
        "T恤": ("T恤", "圆领T恤", "短袖T恤"), "连衣裙": ("连衣裙", "裙子"),
        "裤子": ("裤子", "长裤", "休闲裤"), "鞋": ("帆布鞋", "鞋子", "板鞋"),
        "包": ("手提包", "包包", "女包"), "帽子": ("帽子", "棒球帽", "鸭舌帽"),
        "杯子": ("杯子", "马克杯", "水杯"), "雨伞": ("雨伞", "长柄伞"),
        "袜子": ("袜子", "棉袜", "短袜"), "手套": ("手套", "棉手套", "连指手套"),
    },
    "colour": {
        "红": ("红色", "大红色"), "橙": ("橙色", "橘色"), "黄": ("黄色", "明黄色"), "绿": ("绿色", "草绿色"),
        "青": ("青色", "青绿色"), "蓝": ("蓝色", "宝蓝色"), "紫": ("紫色", "深紫色"),
        "粉": ("粉色", "粉红色"), "棕": ("棕色", "咖啡色"), "黑": ("黑色", "纯黑色"),
    },
    "pattern": {
        "纯色": ("纯色", "素色", "净色"), "条纹": ("条纹", "横条纹"), "圆点": ("圆点", "波点"),
        "格子": ("格子", "格纹", "方格"),
    },
    "background": {
        "白": ("白底", "白色背景", "白背景"), "米": ("米色底", "米色背景", "奶油色背景"),
        "浅蓝": ("浅蓝底", "浅蓝色背景", "淡蓝背景"),
    },
    "size": {"大": ("大号", "大码", "大款"), "小": ("小号", "小码", "小款")},
}  # fmt: skip
VALUES: dict[str, tuple[str, ...]] = {name: tuple(words) for name, words in SYNONYMS.items()}
MEASURES = dict(zip(VALUES["kind"], "件条条只个顶个把只只", strict=True))
ORDERS = (
    "{background}的{size}{colour}{pattern}{kind}",
    "一{measure}{size}的{colour}{pattern}{kind},{background}",
    "{colour}{pattern}{kind},{size},{background}",
    "{size}{pattern}{kind},{colour},{background}",
    "{background},{colour}的{pattern}{kind},{size}",
    "{colour}{size}{kind} {pattern} {background}",
)


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What a picture shows, in the canonical words of VALUES."""

    kind: str
    colour: str
    pattern: str
    background: str
    size: str
    style: str = ""
    """A name of STYLES; empty where the caption names none."""


def all_combinations() -> list[Attributes]:
    """Every combination of values, in the order of VALUES."""
    products = itertools.product(*VALUES.values())
    return [Attributes(**dict(zip(VALUES, values, strict=True))) for values in products]


def held_out(a: Attributes) -> bool:
    """Whether this combination is kept from training: a fixed tenth, chosen by hash."""
    name = "/".join((a.kind, a.colour, a.pattern, a.background, a.size))
    return hashlib.sha256(name.encode()).digest()[0] < 26


def caption(attributes: Attributes, *, rng: np.random.Generator) -> str:
    """A shop's caption that names all five attributes, in a random word order and choice of words."""
    order = ORDERS[rng.integers(len(ORDERS))]
    words = {name: SYNONYMS[name][getattr(attributes, name)] for name in VALUES}
    chosen = {name: choice[rng.integers(len(choice))] for name, choice in words.items()}
    return order.format(measure=MEASURES[attributes.kind], **chosen)


def unseen_style(kind: str) -> str:
    """The style in which no training picture of the sample in styles shows this kind."""
    return list(STYLES)[VALUES["kind"].index(kind) % len(STYLES)]


def in_style(text: str, style: str, *, rng: np.random.Generator) -> str:
    """A caption that says its style first, where no text_len cuts it off."""
    words = STYLES[style].words
    return f"{words[rng.integers(len(words))]},{text}"


@cache
def _grammar(*, plain: bool) -> tuple[tuple[re.Pattern[str], ...], dict[tuple[str, str], str]]:
    """Patterns, and the value that each word means; `plain`: in small letters, without blanks."""
    words = {(n, w): v for n, values in SYNONYMS.items() for v, words in values.items() for w in words}
    canonical = {(n, w.lower() if plain else w): v for (n, w), v in words.items()}
    groups = {n: f"(?P<{n}>{'|'.join(w for m, w in canonical if m == n)})" for n in VALUES}
    measure = f"[{''.join(sorted(set(MEASURES.values())))}]"
    orders = [order.replace(" ", "") if plain else order for order in ORDERS]
    return tuple(re.compile(order.format(measure=measure, **groups)) for order in orders), canonical


def parse_caption(text: str) -> Attributes:
    """The attributes that a caption of this grammar names.

    Raises:
        ValueError: the text is no sentence of the grammar.
    """
    return _parsed(text, plain=False)


def parse_written(text: str) -> Attributes:
    """The same of a caption that a model wrote: in small letters, without blanks between Hanzi.

    Raises:
        ValueError: the text is no sentence of the grammar.
    """
    return _parsed("".join(text.lower().split()), plain=True)


def _parsed(text: str, *, plain: bool) -> Attributes:
    patterns, canonical = _grammar(plain=plain)
    for pattern in patterns:
        if match := pattern.fullmatch(text):
            return Attributes(**{name: canonical[name, word] for name, word in match.groupdict().items()})
    raise ValueError(f"caption: got {text!r}, expected a sentence such as 白底的大号红色条纹T恤 (see ORDERS)")
