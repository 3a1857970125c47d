"""CLIP score and retrieval: how near a picture's vector is to that of its caption, and to those of others.

A mean cosine alone says nothing: unrelated pairs score nearly as high. So it always stands beside the same
pictures with shuffled captions, and beside how often the own caption ranks first among a hundred.

Letters: N pictures, U distinct captions, P the width of a vector.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

AMONG = 100  # captions that a picture's own one is ranked among, itself counted
SEED = 2020  # of the order in which the other captions are taken
CHUNK = 256  # pictures at a time, to bound memory


@dataclass(frozen=True, kw_only=True)
class ClipRows:
    """What is known of each picture, (N,) each."""

    score: np.ndarray
    """Cosine with its own caption, float64."""
    shuffled: np.ndarray
    """Cosine with another row's caption; NaN where there is none that could be taken."""
    rank: np.ndarray
    """int64: how many of the other captions are at least as near as its own; 0 is first."""
    among: np.ndarray
    """int64: captions that it was ranked among, itself counted; fewer than 100 in a small table."""


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """Means over a table."""

    score: float
    shuffled: float | None
    """None where every row has the same caption: then the score cannot be read."""
    recall_at_1: float | None
    recall_at_10: float | None
    among: int
    """Captions that the pictures were ranked among, 100 unless the table has fewer."""
    pictures: int


def clip_rows(images: np.ndarray, texts: np.ndarray, idx: list[str], captions: list[str]) -> ClipRows:
    """Scores of N pictures.

    The other captions of a picture are the ones that follow its own in a shuffled circle of all distinct
    captions; captions that also stand beside its idx (several samples of a prompt, several captions of a
    photograph) are passed over.

    Args:
        images, texts: vectors (N, P) of length 1, a row a picture.
        idx: of each row.
        captions: of each row.
    """
    own, first = _distinct(captions)  # (N,), (U,)
    others = _others(own, idx, len(first))  # (N, AMONG - 1), -1 where there are no more
    texts = texts[first].astype(np.float64)  # (U, P)
    score, shuffled = np.empty(len(idx)), np.empty(len(idx))
    rank = np.empty(len(idx), np.int64)
    for start in range(0, len(idx), CHUNK):
        rows = slice(start, start + CHUNK)
        pictures, chosen = images[rows].astype(np.float64), others[rows]
        near = np.einsum("np,np->n", pictures, texts[own[rows]])
        far = np.einsum("np,nkp->nk", pictures, texts[chosen])
        far[chosen < 0] = -np.inf
        score[rows], rank[rows] = near, (far >= near[:, None]).sum(1)
        shuffled[rows] = np.where(chosen[:, 0] < 0, np.nan, far[:, 0])
    return ClipRows(score=score, shuffled=shuffled, rank=rank, among=1 + (others >= 0).sum(1))


def clip_score(rows: ClipRows) -> ClipScore:
    """The means.

    Raises:
        ValueError: no rows.
    """
    if not len(rows.score):
        raise ValueError("clip score: got 0 rows, expected at least 1")
    compared = rows.among > 1
    any_compared = bool(compared.any())
    rank = rows.rank[compared]
    return ClipScore(
        score=float(rows.score.mean()),
        shuffled=float(rows.shuffled[compared].mean()) if any_compared else None,
        recall_at_1=float((rank < 1).mean()) if any_compared else None,
        recall_at_10=float((rank < 10).mean()) if any_compared else None,
        among=int(rows.among.max()),
        pictures=len(rows.score),
    )


def _distinct(captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's caption among the distinct ones, and the first row of each of those."""
    numbers: dict[str, int] = {}
    own = np.array([numbers.setdefault(caption, len(numbers)) for caption in captions], np.int64)
    return own, np.unique(own, return_index=True)[1]


def _others(own: np.ndarray, idx: list[str], num_captions: int) -> np.ndarray:
    """Numbers of the captions that each row is compared with, int64 (N, AMONG - 1), -1 after the last."""
    order = np.random.RandomState(SEED).permutation(num_captions)
    place = np.empty(num_captions, np.int64)
    place[order] = np.arange(num_captions)
    beside: dict[str, set[int]] = defaultdict(set)
    for name, caption in zip(idx, own.tolist(), strict=True):
        beside[name].add(caption)
    found = np.full((len(own), AMONG - 1), -1, np.int64)
    for row, (name, caption) in enumerate(zip(idx, own.tolist(), strict=True)):
        taken = beside[name]
        reach = min(AMONG - 1 + len(taken), num_captions)
        following = order[(place[caption] + 1 + np.arange(reach)) % num_captions].tolist()
        line = [other for other in following if other not in taken][: AMONG - 1]
        found[row, : len(line)] = line
    return found
