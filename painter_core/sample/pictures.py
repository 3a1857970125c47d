"""Drawn product pictures with Chinese captions: the sample data that every machine can make for itself.

A row is a pure function of (seed, split, index): attributes are drawn, a caption that names every one of
them is put together (captions.py), and the goods are drawn with Pillow. Because a caption can be
parsed back and a picture can be read back (judge.py), what a model paints from a caption can be scored. The
same sample can be drawn in styles (styles.py).

Pictures are RGB, image_size x image_size; every length is a fraction of image_size or of the goods' half
extent, so that a picture looks the same at 64, 128 and 256 px. Points: x to the right, y down.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from painter_core.sample.captions import (
    Attributes,
    all_combinations,
    caption,
    held_out,
    in_style,
    unseen_style,
)
from painter_core.sample.styles import FIRST, STYLES

Split = Literal["train", "valid", "held_out"]
RGB = tuple[int, int, int]
Placement = Callable[[np.ndarray], list[tuple[float, float]]]  # points on the goods -> pixels

# One random stream for each use, so that no two of them ever share a picture.
STREAMS = {"train": 0, "valid": 1, "held_out": 2, "scene": 3, "style": 4}

# Palette: well apart in Lab, and no colour lies between another one and white (the pattern's second tone).
COLOURS: dict[str, RGB] = {
    "红": (214, 30, 38), "橙": (245, 124, 12), "黄": (246, 206, 20), "绿": (38, 150, 62),
    "青": (20, 178, 182), "蓝": (34, 84, 206), "紫": (126, 48, 172), "粉": (246, 112, 178),
    "棕": (122, 74, 44), "黑": (44, 44, 48),
}  # fmt: skip
BACKGROUNDS: dict[str, RGB] = {"白": (252, 252, 252), "米": (243, 228, 198), "浅蓝": (200, 224, 246)}
# Half the goods' extent as a fraction of the picture, and the pattern's period as a fraction of the picture.
SIZES: dict[str, tuple[float, float]] = {"大": (0.385, 0.14), "小": (0.25, 0.115)}
ANGLES = (-6.0, 0.0, 6.0)  # degrees: few and discrete, as lossy coders and the judge both like it
SHADES = (-0.06, 0.0, 0.06)
SLOPE = 0.05  # of the light, from top left to bottom right
STEP = 1 / 32  # positions come in steps: two pixels at 64
EDGE = 0.016  # width of the outline, fraction of the picture: one pixel at 64
# Goods are drawn in the numbers of their colours: 1 and 2 are these, and then come those of the paints.
EDGE_PAINT, SECOND_TONE, FIRST_PAINT = 1, 2, 3
PAINTS = ("body", "trim", "light")


# The goods, one part a line in drawing order: kind | paint | points "x y" in hundredths of the half extent.
# After the paint: "mirror" if the points are the left half, top to bottom; "curve" for a smooth line through
# them; a number for a stroke of that width.
GOODS = """
T恤 | body mirror | 0 -58, -16 -62, -28 -80, -52 -74, -100 -32, -78 0, -54 -20, -54 88
T恤 | trim curve 9 | -28 -80, -18 -60, 0 -53, 18 -60, 28 -80
连衣裙 | body mirror | 0 -66, -16 -70, -22 -100, -36 -100, -40 -60, -27 -16, -78 84, -40 96
连衣裙 | trim 12 | -27 -16, 27 -16
裤子 | body mirror | 0 -96, -52 -96, -68 96, -12 96, 0 -22
裤子 | trim 14 | -53 -90, 53 -90
鞋 | body | -94 42, -90 -52, -30 -58, -14 -30, 14 -14, 66 -4, 92 16, 97 42
鞋 | light | -98 40, 98 36, 100 50, 96 62, -96 62, -100 50
鞋 | light 9 | -22 -34, -6 -46
鞋 | light 9 | -2 -20, 10 -34
鞋 | light 9 | 22 -10, 32 -26
包 | trim curve 13 | -38 -18, -34 -62, 0 -90, 34 -62, 38 -18
包 | body mirror | 0 -20, -70 -20, -80 -8, -96 78, -86 88, 0 88
包 | light | -12 -16, 12 -16, 12 10, -12 10
帽子 | body curve | -84 38, -82 -2, -62 -42, -18 -62, 26 -46, 50 -6, 54 38, -14 44
帽子 | trim curve | 0 40, 56 28, 90 34, 100 50, 60 54, 10 56
帽子 | trim 11 | -24 -64, -8 -64
杯子 | trim curve 17 | 40 -40, 84 -38, 92 4, 76 38, 38 46
杯子 | body | -78 -74, 48 -74, 46 66, 32 80, -62 80, -76 66
杯子 | light | -80 -76, 50 -76, 50 -60, -80 -60
雨伞 | trim 9 | 0 -92, 0 74, 8 92, 24 92, 30 76
雨伞 | body mirror | 0 -82, -56 -66, -90 -28, -100 12, -84 0, -66 -4, -50 0, -34 12, -18 2, 0 -4
袜子 | body | -50 -70, 14 -70, 16 18, 62 44, 76 66, 66 90, 40 96, -12 82, -46 54, -54 20
袜子 | trim | -56 -96, 20 -96, 20 -66, -56 -66
手套 | body | -46 62, -52 -30, -42 -78, -8 -98, 26 -80, 36 -30, 40 0, 60 -26, 80 -22, 80 4, 44 62
手套 | light | -54 58, 50 58, 50 94, -54 94
"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the goods: a filled outline, or a stroke."""

    paint: str
    """body takes the colour and the pattern, trim a darker shade of the colour, light a near white."""
    points: np.ndarray
    """(N, 2), in units of the half extent, origin in the middle of the picture."""
    width: float
    """Width of a stroke in units of the half extent; 0 for a filled part."""


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """One caption and picture of the sample."""

    idx: str
    text: str
    attributes: Attributes
    image: Image.Image


@cache
def _pool(split: Split) -> tuple[Attributes, ...]:
    return tuple(a for a in all_combinations() if held_out(a) == (split == "held_out"))


def _styles_of(kind: str, split: Split, styles: tuple[str, ...]) -> list[str]:
    """Those of some styles in which a split shows this kind."""
    return [style for style in styles if (style == unseen_style(kind)) == (split == "held_out")]


@cache
def _styled_pool(split: Split, styles: tuple[str, ...]) -> tuple[Attributes, ...]:
    return tuple(a for a in _pool("train") if _styles_of(a.kind, split, styles))


def _mixed(colour: RGB, share: float) -> RGB:
    """With a share of white; of black if it is below 0."""
    towards, share = (255, share) if share > 0 else (0, -share)
    return tuple(round(c + (towards - c) * share) for c in colour)  # type: ignore[return-value]


def _smooth(points: np.ndarray, closed: bool) -> np.ndarray:
    """A Catmull-Rom curve through (N, 2) points, eight points a segment."""
    before, after = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    p = np.concatenate([before, points, after])
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))  # (segments, 1, 2)
    t = np.linspace(0, 1, 8)[:, None]  # (8, 1)
    curve = b + (c - a) / 2 * t + (a - 2.5 * b + 2 * c - d / 2) * t**2 + (1.5 * (b - c) + (d - a) / 2) * t**3
    return curve.reshape(-1, 2)


@cache
def _parts(kind: str) -> tuple[Part, ...]:
    parts = []
    for line in GOODS.strip().splitlines():
        name, how, text = line.split(" | ")
        paint, *rest = how.split()
        points = np.array([pair.split() for pair in text.split(",")], dtype=np.float64) / 100
        width = float(rest[-1]) / 100 if rest and rest[-1].isdecimal() else 0.0
        if "mirror" in rest:
            points = np.concatenate([points, points[::-1] * (-1, 1)])
        if "curve" in rest:
            points = _smooth(points, closed=not width)
        if name == kind:
            parts.append(Part(paint=paint, points=points, width=width))
    return tuple(parts)


def _pattern_mask(
    pattern: str, period: float, points: np.ndarray, place: Placement, canvas: int
) -> Image.Image:
    """Where the second tone goes on the part with these points; it turns with the goods.

    period, points: in half extents. What lies further than a period from the part's box is left out, as it
    takes time and nobody sees it.
    """
    mask = Image.new("L", (canvas, canvas))
    pen = ImageDraw.Draw(mask)
    (left, top), (right, bottom) = (points.min(0) - period).tolist(), (points.max(0) + period).tolist()
    steps = range(-8, 9)
    bar = np.array([(-2, -0.25), (2, -0.25), (2, 0.25), (-2, 0.25)]) * (1, period)
    turns = np.arange(12) * np.pi / 6
    disc = np.stack([np.cos(turns), np.sin(turns)], 1) * period * 0.29
    if pattern == "圆点":
        for row, column in itertools.product(steps, steps):
            x, y = (column + row % 2 / 2) * 1.1 * period, row * 0.9 * period
            if left < x < right and top < y < bottom:
                pen.polygon(place(disc + np.array((x, y))), fill=255)
    for at in [step * period for step in steps] if pattern != "圆点" else ():
        wide = 1 if pattern == "条纹" else 0.62  # a check is a grid of thinner bars
        if top < at < bottom:
            pen.polygon(place(bar * (1, wide) + np.array((0, at))), fill=255)
        if pattern != "条纹" and left < at < right:
            pen.polygon(place(bar[:, ::-1] * (wide, 1) + np.array((at, 0))), fill=255)
    return mask


def _numbers(a: Attributes, place: Placement, unit: float, canvas: int) -> list[Image.Image]:
    """The goods as the number of each pixel's colour (L, 0 around the goods), and the mask that says where
    they are (L); unit: half extent in pixels."""
    numbers, mask = Image.new("L", (canvas, canvas)), Image.new("L", (canvas, canvas))
    pen, mask_pen = ImageDraw.Draw(numbers), ImageDraw.Draw(mask)
    edge = round(2 * EDGE * STYLES[a.style or FIRST].width * canvas)
    for part in _parts(a.kind):
        points = place(part.points)
        ring = points if part.width else [*points, *points[:2]]
        width, paint = round(part.width * unit), FIRST_PAINT + PAINTS.index(part.paint)
        outline = Image.new("1", mask.size)  # drawn once, as Pillow takes long for the joints
        ImageDraw.Draw(outline).line(ring, fill=255, width=width + edge, joint="curve")
        numbers.paste(EDGE_PAINT, mask=outline)
        mask.paste(255, mask=outline)
        if part.width:
            pen.line(points, fill=paint, width=width, joint="curve")
            continue
        pen.polygon(points, fill=paint)
        mask_pen.polygon(points, fill=255)
        if part.paint == "body" and a.pattern != "纯色":
            inside = Image.new("L", mask.size)
            ImageDraw.Draw(inside).polygon(points, fill=255)
            period = SIZES[a.size][1] / SIZES[a.size][0]
            tone = _pattern_mask(a.pattern, period, part.points, place, canvas)
            numbers.paste(SECOND_TONE, mask=ImageChops.darker(inside, tone))
    return [numbers, mask]


@lru_cache(maxsize=32)  # the judge draws each of the goods 40 times, in 27 poses
def _layers(
    goods: Attributes, degrees: float, moved: tuple[int, int], image_size: int
) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """What does not hang on colours: the numbers of the colours, larger than the picture by supersampling
    (PIL's pens have hard edges), where the goods are, and their shadow: (H, W, 1) in 0..1."""
    canvas = image_size * _factor(image_size)
    unit = SIZES[goods.size][0] * canvas
    angle = np.deg2rad(degrees)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))]) * unit
    centre = canvas * (0.5 + STEP * np.array(moved))

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        return [(x, y) for x, y in (points @ turn + centre).tolist()]

    numbers, mask = _numbers(goods, place, unit, canvas)
    mask = mask.reduce(_factor(image_size))
    shadow = np.asarray(mask.filter(ImageFilter.GaussianBlur(image_size / 32)), np.float32)
    shift = image_size // 32
    dark = np.roll(shadow, (shift, shift // 2), (0, 1))[..., None] / 255 * 0.13
    return numbers, np.asarray(mask, np.float32)[..., None] / 255, dark


def _factor(image_size: int) -> int:
    return 4 if image_size <= 64 else 2


def draw(attributes: Attributes, *, rng: np.random.Generator, image_size: int) -> Image.Image:
    """Draw the goods; the generator gives position, angle, scale, shade and light. Returns an RGB picture."""
    degrees = ANGLES[rng.integers(3)]
    right, lower = rng.integers(-1, 1, 2, endpoint=True).tolist()
    base = _mixed(COLOURS[attributes.colour], SHADES[rng.integers(3)])
    # goods that differ in colours alone have the same layers
    plain = dataclasses.replace(attributes, colour="", background="")
    numbers, alpha, dark = _layers(plain, degrees, (right, lower), image_size)

    style = STYLES[attributes.style or FIRST]
    edge, second = _mixed(base, style.outline), _mixed(base, style.second)
    paints = [_mixed(base, getattr(style, name)) for name in PAINTS]
    numbers = numbers.copy()
    # around the goods the outline's colour, so that no other one mixes into their border pixels
    numbers.putpalette(bytes(itertools.chain(edge, edge, second, *paints)))
    colours = np.asarray(numbers.convert("RGB").reduce(_factor(image_size)), np.float32)  # (H, W, 3)
    down = np.linspace(-1, 1, image_size, dtype=np.float32)
    light = 1 - SLOPE * (down[:, None, None] + down[None, :, None]) / 2
    floor = np.array(BACKGROUNDS[attributes.background], np.float32) * (1 - 0.012 * (down[:, None, None] + 1))
    pixels = floor * (1 - dark) * (1 - alpha) + colours * light * alpha
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def stream(use: str, seed: int, index: int) -> np.random.Generator:
    """The random numbers of one picture; `use` is a key of STREAMS."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, STREAMS[use], index))))


def sample_row(
    seed: int, index: int, *, split: Split, image_size: int = 64, styles: Sequence[str] = ()
) -> SampleRow:
    """Row `index` of a split. Train and valid never show a held-out combination, held_out nothing else.

    Args:
        seed, index: which random numbers.
        split: of the sample.
        image_size: side in pixels.
        styles: names of STYLES; the picture is drawn in one of them, and the caption names it. Then held_out
            has combinations that train shows, of kinds in the style that train never shows them in.
    """
    rng = stream(split, seed, index)
    pool = _styled_pool(split, tuple(styles)) if styles else _pool(split)
    attributes = pool[rng.integers(len(pool))]
    text = caption(attributes, rng=rng)
    if styles:
        chosen = stream("style", seed, index)
        possible = _styles_of(attributes.kind, split, tuple(styles))
        attributes = dataclasses.replace(attributes, style=possible[chosen.integers(len(possible))])
        text = in_style(text, attributes.style, rng=chosen)
    image = draw(attributes, rng=rng, image_size=image_size)
    return SampleRow(idx=f"{split}-{seed}-{index}", text=text, attributes=attributes, image=image)
