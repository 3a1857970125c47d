"""Drawn product pictures with Chinese captions: the sample data that every machine can make for itself.

A row is a pure function of (seed, split, index): attributes are drawn, a caption that names every one of
them is put together from a small shop grammar, and the goods are drawn with Pillow. Because a caption can be
parsed back and a picture can be read back (judge.py), what a model paints from a caption can be scored.
`drawn_scene` makes other pictures (no goods), so that a VQGAN trained on both is no specialist.

Pictures are RGB, image_size x image_size; every length is a fraction of image_size or of the goods' half
extent, so that a picture looks the same at 64, 128 and 256 px. Points: x to the right, y down.
"""

import hashlib
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Split = Literal["train", "valid", "held_out"]
RGB = tuple[int, int, int]
Placement = Callable[[np.ndarray], list[tuple[float, float]]]  # points on the goods -> pixels

# One random stream for each use, so that no two of them ever share a picture.
STREAMS = {"train": 0, "valid": 1, "held_out": 2, "scene": 3}

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
class Part:
    """One part of the goods: a filled outline, or a stroke."""

    paint: str
    """body takes the colour and the pattern, trim a darker shade of the colour, light a near white."""
    points: np.ndarray
    """(N, 2), in units of the half extent, origin in the middle of the picture."""
    width: float
    """Width of a stroke in units of the half extent; 0 for a filled part."""


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What a picture shows, in the canonical words of VALUES."""

    kind: str
    colour: str
    pattern: str
    background: str
    size: str


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """One caption and picture of the sample."""

    idx: str
    text: str
    attributes: Attributes
    image: Image.Image


def all_combinations() -> list[Attributes]:
    """Every combination of values, in the order of VALUES."""
    products = itertools.product(*VALUES.values())
    return [Attributes(**dict(zip(VALUES, values, strict=True))) for values in products]


def held_out(a: Attributes) -> bool:
    """Whether this combination is kept from training: a fixed tenth, chosen by hash."""
    name = "/".join((a.kind, a.colour, a.pattern, a.background, a.size))
    return hashlib.sha256(name.encode()).digest()[0] < 26


@cache
def _pool(split: Split) -> tuple[Attributes, ...]:
    return tuple(a for a in all_combinations() if held_out(a) == (split == "held_out"))


def caption(attributes: Attributes, *, rng: np.random.Generator) -> str:
    """A shop's caption that names all five attributes, in a random word order and choice of words."""
    order = ORDERS[rng.integers(len(ORDERS))]
    words = {name: SYNONYMS[name][getattr(attributes, name)] for name in VALUES}
    chosen = {name: choice[rng.integers(len(choice))] for name, choice in words.items()}
    return order.format(measure=MEASURES[attributes.kind], **chosen)


@cache
def _grammar() -> tuple[tuple[re.Pattern[str], ...], dict[tuple[str, str], str]]:
    canonical = {(n, w): v for n, values in SYNONYMS.items() for v, words in values.items() for w in words}
    groups = {n: f"(?P<{n}>{'|'.join(w for m, w in canonical if m == n)})" for n in VALUES}
    measure = f"[{''.join(sorted(set(MEASURES.values())))}]"
    return tuple(re.compile(order.format(measure=measure, **groups)) for order in ORDERS), canonical


def parse_caption(text: str) -> Attributes:
    """The attributes that a caption of this grammar names.

    Raises:
        ValueError: the text is no sentence of the grammar.
    """
    patterns, canonical = _grammar()
    for pattern in patterns:
        if match := pattern.fullmatch(text):
            return Attributes(**{name: canonical[name, word] for name, word in match.groupdict().items()})
    raise ValueError(f"caption: got {text!r}, expected a sentence such as 白底的大号红色条纹T恤 (see ORDERS)")


def _mixed(colour: RGB, towards: int, share: float) -> RGB:
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


def _pattern_mask(pattern: str, period: float, place: Placement, canvas: int) -> Image.Image:
    """Where the second tone goes; it lies on the goods and turns with them. period in half extents."""
    mask = Image.new("L", (canvas, canvas))
    pen = ImageDraw.Draw(mask)
    steps = np.arange(-8, 9)
    bar = np.array([(-2, -0.25), (2, -0.25), (2, 0.25), (-2, 0.25)]) * (1, period)
    turns = np.arange(12) * np.pi / 6
    disc = np.stack([np.cos(turns), np.sin(turns)], 1) * period * 0.29
    if pattern == "圆点":
        for row, column in itertools.product(steps, steps):
            pen.polygon(place(disc + np.array(((column + row % 2 / 2) * 1.1, row * 0.9)) * period), fill=255)
    for step in steps * period if pattern != "圆点" else ():
        down, right = np.array((0, step)), np.array((step, 0))
        if pattern == "条纹":
            pen.polygon(place(bar + down), fill=255)
        else:  # a check is a grid of thinner bars
            pen.polygon(place(bar * (1, 0.62) + down), fill=255)
            pen.polygon(place(bar[:, ::-1] * (0.62, 1) + right), fill=255)
    return mask


def _goods(a: Attributes, base: RGB, place: Placement, unit: float, canvas: int) -> list[Image.Image]:
    """The goods in colours (RGB), and the mask that says where they are (L); unit: half extent in pixels."""
    edge_colour, second = _mixed(base, 0, 0.42), _mixed(base, 255, 0.8)
    paints = {"body": base, "trim": _mixed(base, 0, 0.22), "light": _mixed(base, 255, 0.9)}
    colours, mask = Image.new("RGB", (canvas, canvas), edge_colour), Image.new("L", (canvas, canvas))
    pen, mask_pen = ImageDraw.Draw(colours), ImageDraw.Draw(mask)
    edge = round(2 * EDGE * canvas)
    for part in _parts(a.kind):
        points = place(part.points)
        ring = points if part.width else [*points, *points[:2]]
        width = round(part.width * unit)
        pen.line(ring, fill=edge_colour, width=width + edge, joint="curve")
        mask_pen.line(ring, fill=255, width=width + edge, joint="curve")
        if part.width:
            pen.line(points, fill=paints[part.paint], width=width, joint="curve")
            continue
        pen.polygon(points, fill=paints[part.paint])
        mask_pen.polygon(points, fill=255)
        if part.paint == "body" and a.pattern != "纯色":
            inside = Image.new("L", mask.size)
            ImageDraw.Draw(inside).polygon(points, fill=255)
            tone = _pattern_mask(a.pattern, SIZES[a.size][1] / SIZES[a.size][0], place, canvas)
            colours.paste(second, mask=ImageChops.darker(inside, tone))
    return [colours, mask]


def draw(attributes: Attributes, *, rng: np.random.Generator, image_size: int) -> Image.Image:
    """Draw the goods; the generator gives position, angle, scale, shade and light. Returns an RGB picture."""
    factor = 4 if image_size <= 64 else 2  # supersampling; PIL's pens have hard edges
    canvas = image_size * factor
    unit = SIZES[attributes.size][0] * canvas
    angle = np.deg2rad(ANGLES[rng.integers(3)])
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))]) * unit
    centre = canvas * (0.5 + STEP * rng.integers(-1, 1, 2, endpoint=True))
    shade = SHADES[rng.integers(3)]
    base = _mixed(COLOURS[attributes.colour], 255 if shade > 0 else 0, abs(shade))

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        return [(x, y) for x, y in (points @ turn + centre).tolist()]

    colours, mask = (layer.reduce(factor) for layer in _goods(attributes, base, place, unit, canvas))
    shadow = mask.filter(ImageFilter.GaussianBlur(image_size / 32))
    shift = image_size // 32
    alpha = np.asarray(mask, np.float32)[..., None] / 255  # (H, W, 1)
    dark = np.roll(np.asarray(shadow, np.float32), (shift, shift // 2), (0, 1))[..., None] / 255 * 0.13
    down = np.linspace(-1, 1, image_size, dtype=np.float32)
    light = 1 - SLOPE * (down[:, None, None] + down[None, :, None]) / 2
    floor = np.array(BACKGROUNDS[attributes.background], np.float32) * (1 - 0.012 * (down[:, None, None] + 1))
    pixels = floor * (1 - dark) * (1 - alpha) + np.asarray(colours, np.float32) * light * alpha
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def _stream(use: str, seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, STREAMS[use], index))))


def sample_row(seed: int, index: int, *, split: Split, image_size: int = 64) -> SampleRow:
    """Row `index` of a split. Train and valid never show a held-out combination, held_out nothing else."""
    rng = _stream(split, seed, index)
    pool = _pool(split)
    attributes = pool[rng.integers(len(pool))]
    text = caption(attributes, rng=rng)
    image = draw(attributes, rng=rng, image_size=image_size)
    return SampleRow(idx=f"{split}-{seed}-{index}", text=text, attributes=attributes, image=image)


def _hills(pen: ImageDraw.ImageDraw, rng: np.random.Generator, canvas: int) -> None:
    """A landscape: sun, two or three ranges or a sea, and trees."""
    x, y, r = canvas * rng.uniform((0.2, 0.12, 0.05), (0.8, 0.3, 0.1))
    pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, int(rng.integers(190, 250)), 120))
    across = np.linspace(0, canvas, 33)
    land = rng.uniform((40, 70, 60), (110, 150, 170))
    for depth in range(3):
        wave = np.sin(across / canvas * rng.uniform(3, 9) + rng.uniform(0, 6)) * canvas * rng.uniform(0, 0.1)
        top = canvas * (0.45 + 0.17 * depth) + wave
        fill = tuple((land * (1.25 - 0.25 * depth)).astype(int).tolist())
        ridge = np.stack([across, top], 1).ravel().tolist()
        pen.polygon([0, canvas, *ridge, canvas, canvas], fill=fill)
    for _ in range(rng.integers(0, 4)):
        x, y, r = canvas * rng.uniform((0.1, 0.65, 0.05), (0.9, 0.85, 0.1))
        green = (30, int(rng.integers(80, 140)), 60)
        pen.line((x, y, x, y + 2 * r), fill=(92, 64, 44), width=round(r / 3))
        pen.polygon([(x - r, y + r), (x + r, y + r), (x, y - 1.6 * r)], fill=green)


def _shapes(pen: ImageDraw.ImageDraw, rng: np.random.Generator, canvas: int) -> None:
    """Discs, bars and many-cornered shapes in any colour."""
    for _ in range(rng.integers(2, 7)):
        x, y, r = (canvas * rng.uniform((0, 0, 0.08), (1, 1, 0.3))).tolist()
        sides, turn = int(rng.choice((3, 4, 6, 40))), float(rng.uniform(0, 90))
        pen.regular_polygon((x, y, r), sides, turn, fill=tuple(rng.integers(0, 256, 3).tolist()))


def _brush(pen: ImageDraw.ImageDraw, rng: np.random.Generator, canvas: int) -> None:
    """Strokes that swell and thin out, as of ink."""
    for _ in range(rng.integers(2, 6)):
        ink = tuple((rng.uniform(10, 90) + rng.uniform(-10, 30, 3)).clip(0, 255).astype(int).tolist())
        a, b, c = rng.uniform(0.05, 0.95, (3, 2)) * canvas
        t = np.linspace(0, 1, 60)[:, None]  # (60, 1)
        path = a * (1 - t) ** 2 + 2 * b * t * (1 - t) + c * t**2
        radius = canvas * rng.uniform(0.015, 0.05) * (0.25 + np.sin(np.pi * t[:, 0] ** 0.7))
        for (x, y), r in zip(path.tolist(), radius.tolist(), strict=True):
            pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)


def drawn_scene(seed: int, index: int, image_size: int) -> Image.Image:
    """Another picture, with no goods in it: landscape, shapes, brush strokes or a bare gradient. RGB."""
    rng = _stream("scene", seed, index)
    factor = 4 if image_size <= 64 else 2
    corners = rng.integers(90, 256, (2, 2, 3)).astype(np.uint8)
    if rng.random() < 0.5:  # half of the floors are light and calm, like paper or sky
        corners = (230 + corners.astype(int) // 10).astype(np.uint8)
    image = Image.fromarray(corners).resize((image_size * factor,) * 2, Image.Resampling.BILINEAR)
    painter = (_hills, _shapes, _brush, None)[rng.integers(4)]
    if painter:
        painter(ImageDraw.Draw(image), rng, image.width)
    return image.reduce(factor)
