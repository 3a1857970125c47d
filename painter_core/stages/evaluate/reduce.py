"""The score of a table, from the rows of its scores table and those of the reference."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from painter_core.evaluation.clip_score import clip_rows, clip_score
from painter_core.evaluation.frechet import MAX_ROWS, frechet_distance, frechet_distance_of_rows
from painter_core.evaluation.inception_score import inception_score
from painter_core.evaluation.kernel_distance import KernelDistance, kernel_distance
from painter_core.evaluation.score import (
    Attributes,
    CaptionLikelihood,
    Frechet,
    Likelihood,
    Reconstruction,
    Reference,
    TableScore,
)
from painter_core.evaluation.statistics import Statistics, statistics
from painter_core.sample import captions, judge
from painter_core.sample.captions import VALUES
from painter_core.stages.evaluate.extract import Extracted
from schemas import scores

TOO_FEW = "{} pictures; it needs at least 2"


@dataclass(kw_only=True)
class ReferenceSet:
    """What the pictures of all tables are held against."""

    shown: Reference
    features: dict[int, np.ndarray] = field(default_factory=dict)
    """Radius of the blur -> rows (m, 2048); none of a file of statistics."""
    statistics: dict[int, Statistics] = field(default_factory=dict)
    """Radius of the blur -> mean and covariance, made when they are first needed."""

    def of_blur(self, blur: int) -> Statistics:
        """Mean and covariance."""
        if blur not in self.statistics:
            self.statistics[blur] = statistics([self.features[blur]])
        return self.statistics[blur]


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """A table's score, and what stands behind it picture by picture."""

    score: TableScore
    numbers: dict[str, np.ndarray]
    """float64 (n,) each; NaN for a picture without a value."""


@dataclass(kw_only=True)
class _Made:
    """What becomes a Reduced."""

    values: dict[str, Any] = field(default_factory=dict)
    """By names of TableScore's fields."""
    why: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)


def reduce_table(
    name: str,
    found: Extracted,
    wanted: tuple[str, ...],
    blurs: tuple[int, ...],
    reference: ReferenceSet | None,
    classes: np.ndarray | None,
) -> Reduced:
    """The score of one table.

    Args:
        found: its rows.
        wanted: metrics of --metrics.
        blurs: of FID.
        reference: for fid and kid.
        classes: Inception's fc.weight, for is.
    """
    made = _Made()
    if reference is not None:
        _distances(made, found, wanted, blurs, reference)
    if classes is not None:
        features = found.vectors[scores.inception_column(0)]
        made.values["inception_score"] = inception_score([features], len(features), classes)
    if scores.CLIP_IMAGE in found.vectors:
        _clip(made, found)
    names = found.plain.column_names
    if scores.BITS in names:
        bits = made.numbers[scores.BITS] = found.number(scores.BITS)
        mean = float(bits.mean())
        made.values["likelihood"] = Likelihood(bits_per_code=mean, nats_per_code=mean * math.log(2))
    if scores.CAPTION_NATS in names:
        _captions(made, found)
    if f"wanted_{next(iter(VALUES))}" in names:
        _attributes(made, found)
    if scores.PSNR in names:
        _reconstruction(made, found)
    score = TableScore(name=name, rows=found.rows, why=made.why, **made.values)
    return Reduced(score=score, numbers=made.numbers)


def _distances(
    made: _Made, found: Extracted, wanted: tuple[str, ...], blurs: tuple[int, ...], reference: ReferenceSet
) -> None:
    if "fid" in wanted:
        fids = [_fid(found.vectors[scores.inception_column(blur)], reference, blur) for blur in blurs]
        made.values["fid"] = tuple(fids)
        made.why |= {f"FID-{fid.blur}": fid.why for fid in fids if fid.why}
    if "kid" in wanted:
        made.values["kid"], reason = _kid(found.vectors[scores.inception_column(0)], reference)
        made.why |= {"KID": reason} if reason else {}


def _clip(made: _Made, found: Extracted) -> None:
    images, texts = (found.vectors[name] for name in (scores.CLIP_IMAGE, scores.CLIP_TEXT))
    rows = clip_rows(images, texts, found.strings("idx"), found.strings("text"))
    score = made.values["clip"] = clip_score(rows)
    if score.shuffled is None:
        made.why["shuffled captions"] = "all rows have one caption, and the cosine alone says nothing"
    made.numbers |= {
        "clip_score": rows.score,
        "clip_score_shuffled": rows.shuffled,
        "clip_rank": rows.rank.astype(np.float64),
        "clip_among": rows.among.astype(np.float64),
    }


def _captions(made: _Made, found: Extracted) -> None:
    nats, tokens = found.number(scores.CAPTION_NATS), found.number(scores.CAPTION_TOKENS)
    made.numbers[scores.CAPTION_NATS] = nats / tokens
    mean = {"nats_per_token": float(nats.sum() / tokens.sum()), "nats_per_caption": float(nats.mean())}
    made.values["caption"] = CaptionLikelihood(**mean)


def _fid(x: np.ndarray, reference: ReferenceSet, blur: int) -> Frechet:
    y = reference.features.get(blur)
    if len(x) < 2 or (y is not None and len(y) < 2):
        few = len(x) if len(x) < 2 else f"the reference has {len(y if y is not None else ())}"
        return Frechet(value=None, blur=blur, why=TOO_FEW.format(few))
    if y is not None and max(len(x), len(y)) <= MAX_ROWS:
        return Frechet(value=frechet_distance_of_rows(x, y), blur=blur, form="features")
    value = frechet_distance(statistics([x]), reference.of_blur(blur))
    return Frechet(value=value, blur=blur, form="statistics")


def _kid(x: np.ndarray, reference: ReferenceSet) -> tuple[KernelDistance | None, str]:
    y = reference.features.get(0)
    if y is None:
        return None, "the reference is a file of statistics, without the features of single pictures"
    if min(len(x), len(y)) < 2:
        few = len(x) if len(x) < 2 else f"the reference has {len(y)}"
        return None, TOO_FEW.format(few)
    if np.array_equal(x, y):  # the estimate is one of two independent sets, and negative for one set twice
        return KernelDistance(mean=0.0, deviation=0.0, subsets=1, subset_size=len(x)), ""
    return kernel_distance(_rows_of(x), len(x), _rows_of(y), len(y)), ""


def _rows_of(features: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda numbers: features[numbers]


def _attributes(made: _Made, found: Extracted) -> None:
    read, wanted = (_goods(found, kind) for kind in ("read", "wanted"))
    score = judge.score(read, wanted)
    shares = {"single": score.single, "all_right": score.all_right}
    made.values["attributes"] = Attributes(shares=score.attributes, **shares)
    right = [sum(getattr(r, a) == getattr(w, a) for a in VALUES) for r, w in zip(read, wanted, strict=True)]
    made.numbers["attributes_right"] = np.array(right, np.float64)


def _goods(found: Extracted, kind: str) -> list[captions.Attributes]:
    columns = [found.strings(f"{kind}_{name}") for name in VALUES]
    return [captions.Attributes(**dict(zip(VALUES, row, strict=True))) for row in zip(*columns, strict=True)]


def _reconstruction(made: _Made, found: Extracted) -> None:
    for name in (scores.PSNR, scores.SSIM, scores.LPIPS):
        if name in found.plain.column_names:
            made.numbers[name] = found.number(name)
    rfid = None
    if scores.INCEPTION_REC in found.vectors:
        x, y = found.vectors[scores.INCEPTION_REC], found.vectors[scores.inception_column(0)]
        own = ReferenceSet(shown=Reference(path="", n=len(y)), features={0: y})
        rfid = _fid(x, own, 0)
        made.why |= {"rFID": rfid.why} if rfid.why else {}
    means = {name: float(values.mean()) for name, values in made.numbers.items()}
    made.values["reconstruction"] = Reconstruction(
        psnr=means[scores.PSNR], ssim=means[scores.SSIM], lpips=means.get(scores.LPIPS), rfid=rfid
    )
