"""Drawn pictures with no goods in them: landscapes, shapes, brush strokes.

A VQGAN that is trained on these beside the sample's goods is no specialist. A scene is a pure function of
(seed, index), like a row of the sample.
"""

import numpy as np
from PIL import Image, ImageDraw

from painter_core.sample.pictures import stream


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
    rng = stream("scene", seed, index)
    factor = 4 if image_size <= 64 else 2
    corners = rng.integers(90, 256, (2, 2, 3)).astype(np.uint8)
    if rng.random() < 0.5:  # half of the floors are light and calm, like paper or sky
        corners = (230 + corners.astype(int) // 10).astype(np.uint8)
    image = Image.fromarray(corners).resize((image_size * factor,) * 2, Image.Resampling.BILINEAR)
    painter = (_hills, _shapes, _brush, None)[rng.integers(4)]
    if painter:
        painter(ImageDraw.Draw(image), rng, image.width)
    return image.reduce(factor)
