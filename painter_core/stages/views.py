"""--variants and --augment: other views of each picture, encoded once beside it, to train on few pictures.

Which views these are follows from (seed, idx, variant); they stand in the identity of a codes table.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from painter_core.flag_checks import check_range
from painter_core.images.augment import AUGMENTATIONS, augmented


@dataclass(frozen=True, kw_only=True)
class ViewFlags:
    """Views of a picture beside it, of which train draws one a picture and epoch."""

    variants: int = 1
    """Codes of so many views of each picture, itself one of them; other than 1 with --augment."""
    augment: str | None = None
    """How views differ, with commas between: crop (85 to 100 percent of the side), flip (half of them; not
    where captions say left and right), colour (light and saturation, a little)."""

    def __post_init__(self) -> None:
        check_range("--variants", self.variants, 1, 256)
        if (self.variants > 1) != (self.augment is not None):
            raise ValueError(
                f"--variants {self.variants}, --augment {self.augment}: give both, such as --variants 8 "
                "--augment crop, or neither"
            )
        if wrong := [way for way in self.ways if way not in AUGMENTATIONS]:
            raise ValueError(f"--augment: got {wrong[0]!r}, expected some of {', '.join(AUGMENTATIONS)}")

    @property
    def ways(self) -> tuple[str, ...]:
        """What --augment names, once each, in the order of AUGMENTATIONS if all are known."""
        given = [] if self.augment is None else self.augment.split(",")
        return tuple(sorted(set(given), key=lambda way: (*AUGMENTATIONS, way).index(way)))

    def views(self, seed: int) -> "Views | None":
        """What is to be encoded besides; None for nothing."""
        return None if self.variants == 1 else Views(variants=self.variants, ways=self.ways, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Views:
    """Which views a codes table has."""

    variants: int
    ways: tuple[str, ...]
    seed: int

    def identity(self) -> dict[str, Any]:
        """What makes them."""
        return {"variants": self.variants, "augment": list(self.ways), "seed": self.seed}

    def pixels(self, pixels: np.ndarray, idx: list[str], variant: int) -> np.ndarray:
        """One view of each picture, uint8 (N, S, S, 3) like the pictures; `variant` counts from 1."""
        seen = (
            augmented(picture, self.ways, seed=self.seed, idx=name, variant=variant)
            for picture, name in zip(pixels, idx, strict=True)
        )
        return np.stack(list(seen)) if idx else pixels
