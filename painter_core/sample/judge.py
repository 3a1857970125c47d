"""Reads the attributes off a picture of the sample's goods, with no trained model: a painter's score.

Input are pixels (B, H, W, 3) uint8, output one `Attributes` a picture, always the nearest values: a picture
of anything else is read as some goods too. Steps, all on pictures of 64 x 64:
  background  the median of the border, nearest in Lab;
  colour      the palette's colour whose own mixtures (with background, outline and second tone) explain best
              the pixels that are not background: robust against patterns, shade and light;
  kind, size, pattern   a tone map (0 background, 1 the colour), moved to its centre of mass, against rendered
              pictures of every kind, size and pattern in many poses: the nearest one's values;
  style       likewise, if the judge was told that there are several: of the sample in styles.

Letters: B pictures, N pixels or cells of a picture, P pixels that are goods, T templates, C colours.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from painter_core.sample.captions import VALUES, Attributes
from painter_core.sample.pictures import BACKGROUNDS, COLOURS, draw

SIDE = 64  # pictures of any size are read at this one
CELL = 2  # templates are compared in cells of 2 x 2 pixels
POSES, STYLED_POSES = 40, 8  # rendered pictures for each kind, size and pattern, and style
BORDER = 3  # pixels at each side that goods never reach
FAR = 40.0  # RGB distance from the background (0..441) from which a pixel counts as goods
CAP = 70.0  # RGB distance after which a pixel is only "wrong", not more wrong
DARK = 90  # of 255, of a pixel's largest value
CHUNK = 64  # pictures at a time, to bound memory
MOVES = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]  # pixels around the centre of mass


@dataclass(frozen=True, kw_only=True)
class Score:
    """How many attributes were read as wanted; shares are 0..1."""

    num_pictures: int
    attributes: dict[str, float]
    """Share of right values, by attribute."""
    single: float
    """Share of right values over all attributes."""
    all_right: float
    """Share of pictures with every attribute right."""


def score(read: Sequence[Attributes], wanted: Sequence[Attributes]) -> Score:
    """Compare what was read with what was wanted, picture by picture; styles too where they are wanted.

    Raises:
        ValueError: the lists differ in length, or are empty.
    """
    if len(read) != len(wanted) or not wanted:
        raise ValueError(f"score: got {len(read)} read, {len(wanted)} wanted; expected as many, at least one")
    names = [*VALUES, "style"] if wanted[0].style else list(VALUES)
    right = np.array(
        [[getattr(r, name) == getattr(w, name) for name in names] for r, w in zip(read, wanted, strict=True)]
    )  # (B, 5), or (B, 6) with styles
    return Score(
        num_pictures=len(right),
        attributes={name: float(share) for name, share in zip(names, right.mean(0), strict=True)},
        single=float(right.mean()),
        all_right=float(right.all(1).mean()),
    )


def _lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in 0..255 -> CIE Lab under D65."""
    linear = rgb / 255.0
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    to_xyz = np.array([(0.4125, 0.3576, 0.1804), (0.2127, 0.7152, 0.0722), (0.0193, 0.1192, 0.9503)])
    xyz = linear @ to_xyz.T / np.array((0.9505, 1.0, 1.089))
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def _floors(pixels: np.ndarray) -> np.ndarray:
    """The background's colour, (B, H, W, 3) -> (B, 3)."""
    inner = np.zeros(pixels.shape[1:3], dtype=bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return np.median(pixels[:, ~inner], axis=1)


def _dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Products of vectors, (3, P) -> (P,)."""
    return x[0] * y[0] + x[1] * y[1] + x[2] * y[2]


def _from_segment(points: np.ndarray, pictures: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of points (3, P) from the segment a..b, each (3, B), of the picture that each is of: (P,)."""
    along = b - a
    off, length = points - a[:, pictures], _dot(along, along)[pictures]
    along = along[:, pictures]
    off -= (_dot(off, along) / length).clip(0, 1) * along
    return np.sqrt(_dot(off, off))


def _colours(pixels: np.ndarray, floors: np.ndarray, dark_weight: float) -> np.ndarray:
    """Index of the palette's colour, (B,); dark pixels count with a weight."""
    every = pixels.reshape(len(pixels), -1, 3)  # (B, N, 3)
    weights = (np.linalg.norm(every - floors[:, None], axis=-1) > FAR) * 1.0  # (B, N)
    weights[every.max(-1) < DARK] *= dark_weight
    goods = weights > 0
    pictures, points = np.nonzero(goods)[0], np.ascontiguousarray(every[goods].T)  # (P,), (3, P)
    total, floor, off = np.maximum(weights.sum(1), 1), floors.T, np.zeros_like(weights, np.float32)
    costs = []
    for rgb in COLOURS.values():
        base = np.array(rgb, np.float32)[:, None] + np.zeros_like(floor)
        # The lines that the drawing's own mixtures lie on: edge (darker), second tone (lighter), background.
        ends = (base * 0.5, base + (255 - base) * 0.8, floor)
        nearest = np.min([_from_segment(points, pictures, base, end) for end in ends], axis=0)
        off[goods] = nearest.clip(0, CAP)
        costs.append((off * weights).sum(1) / total)
    return np.argmin(costs, axis=0)


def _tones(pixels: np.ndarray, floors: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Where a pixel lies between background (0) and colour (1), (B, H, W)."""
    along = np.array(list(COLOURS.values()), np.float32)[colours] - floors  # (B, 3)
    along /= (along**2).sum(-1, keepdims=True)
    shares = np.einsum("bhwc,bc->bhw", pixels - floors[:, None, None], along)
    return shares.clip(0, 1.2).astype(np.float32)  # an outline is darker than the colour: above 1


def _centred(tones: np.ndarray) -> np.ndarray:
    """Move each map (B, H, W) by whole pixels so that its centre of mass is the middle."""
    weights = np.where(tones > 0.25, tones, 0)
    total = weights.sum((1, 2)) + 1e-6
    place = np.arange(SIDE) - (SIDE - 1) / 2
    down = np.rint((weights.sum(2) * place).sum(1) / total).astype(int)
    right = np.rint((weights.sum(1) * place).sum(1) / total).astype(int)
    # What leaves at one side comes in at the other; harmless, as goods do not touch the border.
    rows = (np.arange(SIDE) + down[:, None]) % SIDE  # (B, H)
    columns = (np.arange(SIDE) + right[:, None]) % SIDE
    return tones[np.arange(len(tones))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _cells(tones: np.ndarray) -> np.ndarray:
    """(B, H, W) -> (B, N) means of CELL x CELL pixels."""
    n = SIDE // CELL
    return tones.reshape(len(tones), n, CELL, n, CELL).mean((2, 4)).reshape(len(tones), -1)


@cache
def _templates(styles: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rendered poses as centred tone maps (T, N), and their (kind, pattern, size, style) (T, 4)."""
    rng = np.random.default_rng(64)
    shapes = itertools.product(VALUES["kind"], VALUES["pattern"], VALUES["size"], styles or ("",))
    labels = [shape for shape in shapes for _ in range(STYLED_POSES if styles else POSES)]
    colours = rng.integers(len(COLOURS), size=len(labels))
    floors = rng.integers(len(BACKGROUNDS), size=len(labels))
    pictures = []
    for (kind, pattern, size, style), colour, floor in zip(labels, colours, floors, strict=True):
        a = Attributes(
            kind=kind,
            colour=VALUES["colour"][colour],
            pattern=pattern,
            background=VALUES["background"][floor],
            size=size,
            style=style,
        )
        pictures.append(np.asarray(draw(a, rng=rng, image_size=SIDE)))
    pixels = np.stack(pictures).astype(np.float32)
    return _cells(_centred(_tones(pixels, _floors(pixels), colours))), np.array(labels)


class Judge:
    """Reads attributes off pictures of one size; holds the rendered templates (seconds to make, once).

    Args:
        image_size: side of the pictures in pixels, at least 64.
        styles: names of STYLES that the pictures may be in, if it is to read them; none for plain pictures.
    """

    def __init__(self, image_size: int = 64, styles: Sequence[str] = ()) -> None:
        if image_size < SIDE:
            raise ValueError(f"image_size: got {image_size}, expected at least {SIDE}")
        self.image_size = image_size
        self._maps, self._labels = _templates(tuple(styles))
        # a wide outline that is nearly black says little of the colour
        self._dark_weight = 0.05 if styles else 1.0
        self._norms = (self._maps**2).sum(1)  # (T,)

    def read(self, pixels: np.ndarray) -> list[Attributes]:
        """The attributes of each picture.

        Args:
            pixels: (B, image_size, image_size, 3) uint8.

        Raises:
            ValueError: another shape or type.
        """
        wanted = (self.image_size, self.image_size, 3)
        if pixels.ndim != 4 or pixels.shape[1:] != wanted or pixels.dtype != np.uint8:
            got = f"{pixels.dtype} {pixels.shape}"
            raise ValueError(f"pixels: got {got}, expected uint8 (B, {', '.join(map(str, wanted))})")
        chunks = [pixels[i : i + CHUNK] for i in range(0, len(pixels), CHUNK)]
        return [attributes for chunk in chunks for attributes in self._read(self._small(chunk))]

    def _small(self, pixels: np.ndarray) -> np.ndarray:
        if self.image_size != SIDE:
            images = (Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BOX) for p in pixels)
            pixels = np.stack([np.asarray(image) for image in images])
        return pixels.astype(np.float32)

    def _read(self, pixels: np.ndarray) -> list[Attributes]:
        floors = _floors(pixels)
        colours = _colours(pixels, floors, self._dark_weight)
        palette = _lab(np.array(list(BACKGROUNDS.values())))
        backgrounds = np.linalg.norm(_lab(floors)[:, None] - palette, axis=-1).argmin(1)
        tones = _centred(_tones(pixels, floors, colours))
        cells = np.stack([_cells(np.roll(tones, move, (1, 2))) for move in MOVES])  # (moves, B, N)
        off = (cells**2).sum(-1)[..., None] + self._norms - 2 * cells @ self._maps.T  # (moves, B, T)
        nearest = self._labels[off.min(0).argmin(1)]
        return [
            Attributes(
                kind=str(kind),
                colour=VALUES["colour"][colour],
                pattern=str(pattern),
                background=VALUES["background"][background],
                size=str(size),
                style=str(style),
            )
            for (kind, pattern, size, style), colour, background in zip(
                nearest, colours, backgrounds, strict=True
            )
        ]
