"""The score of tables: what was measured, on how many pictures, with whose weights; score.json.

A value that could not be measured is None, and `why` says the reason.
"""

import dataclasses
import json
from dataclasses import dataclass, field

from painter_core.evaluation.clip_score import ClipScore
from painter_core.evaluation.inception_score import InceptionScore
from painter_core.evaluation.kernel_distance import KernelDistance

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Frechet:
    """A Frechet distance to the reference."""

    value: float | None
    blur: int
    """Radius of the Gaussian filter over both sets; 0 for none."""
    form: str = ""
    """How it was computed: from `features` or from `statistics`."""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """How likely a model finds the codes of the pictures."""

    bits_per_code: float
    nats_per_code: float
    """The same in the units of training's loss."""


@dataclass(frozen=True, kw_only=True)
class CaptionLikelihood:
    """How likely a model finds the captions of the pictures."""

    nats_per_token: float
    """-log p over all word pieces and ends; in the units of training's text loss."""
    nats_per_caption: float


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """Shares of values that a picture shows as its caption asks for; the bundled sample's goods only."""

    shares: dict[str, float]
    """Right values, by attribute."""
    single: float
    """Right values, over all attributes."""
    all_right: float
    """Pictures with every attribute right."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """How well a VQGAN gives the pictures back; means over the pictures."""

    psnr: float
    ssim: float
    lpips: float | None = None
    rfid: Frechet | None = None


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A table that was read, and what became of its rows."""

    path: str
    rows_in: int
    rows_rejected: int
    rejected: dict[str, int]
    """By reason."""
    pictures: int
    """A row may hold several."""
    formats: dict[str, int]
    """PNG, JPEG ... -> pictures."""
    sizes: dict[str, int]
    """WxH -> pictures; of more than five sizes the rest is under `other`."""


@dataclass(frozen=True, kw_only=True)
class TableScore:
    """What was measured of one table; None for what was not asked for."""

    name: str
    rows: Rows
    fid: tuple[Frechet, ...] = ()
    kid: KernelDistance | None = None
    inception_score: InceptionScore | None = None
    clip: ClipScore | None = None
    likelihood: Likelihood | None = None
    caption: CaptionLikelihood | None = None
    attributes: Attributes | None = None
    reconstruction: Reconstruction | None = None
    why: dict[str, str] = field(default_factory=dict)
    """Metric -> why it has no value."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the pictures were held against."""

    path: str
    n: int | None
    """Pictures; None where a file of statistics does not say it."""
    rows: Rows | None = None
    """None for a file of statistics."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """score.json."""

    tables: tuple[TableScore, ...]
    reference: Reference | None
    made_with: dict[str, str]
    """Settings, and sha256 of weights."""
    notes: tuple[str, ...]
    """What a reader must know before comparing."""

    def to_json(self) -> str:
        """The score as one JSON object; byte-equal for equal scores.

        The attributes of a table that stands alone are also where they were before there were other metrics.
        """
        values = {"format": FORMAT, **dataclasses.asdict(self)}
        for table in values["tables"]:
            if table["caption"] is None:  # as it was before there was this metric
                del table["caption"]
        if len(self.tables) == 1 and (found := self.tables[0].attributes) is not None:
            values |= {"num_pictures": self.tables[0].rows.pictures, "attributes": found.shares}
            values |= {"single": found.single, "all_right": found.all_right}
        return json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
