"""Figures about the rows of a table, gathered as the rows go by, in bounded memory.

Each class takes rows with `add` and gives its figures with `report`, a frozen dataclass of plain values.
"""

import io
from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image

from painter_core.files.storage import sha256
from painter_core.images.decode import FORMATS
from painter_core.text.tokenizer import Tokenizer

MAX_TOKENS = 1024  # longer captions are counted as this long
MAX_SEEN = 2_000_000  # keys remembered to find repeated ones: about 200 MB
EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class CaptionReport:
    """Lengths are in tokens; shares are 0..1."""

    num_captions: int
    mean_tokens: float
    median_tokens: int
    p95_tokens: int
    max_tokens: int
    text_len: int
    cut_fraction: float
    """Share of the captions that are longer than text_len."""
    unk_fraction: float
    """Share of the tokens that are unknown."""
    with_unk_fraction: float
    """Share of the captions with at least one unknown token."""
    num_all_unk: int


class CaptionStats:
    """Tokens of captions."""

    def __init__(self, tokenizer: Tokenizer, text_len: int) -> None:
        self._tokenizer, self._text_len = tokenizer, text_len
        self._lengths = np.zeros(MAX_TOKENS + 1, np.int64)
        self._unk = self._with_unk = self._all_unk = self._tokens = 0

    def add(self, texts: list[str]) -> None:
        for ids in self._tokenizer.encode(texts):
            unknown = ids.count(self._tokenizer.unk_id)
            self._lengths[min(len(ids), MAX_TOKENS)] += 1
            self._tokens += len(ids)
            self._unk += unknown
            self._with_unk += unknown > 0
            self._all_unk += 0 < unknown == len(ids)

    def report(self) -> CaptionReport:
        count = int(self._lengths.sum())
        below = np.cumsum(self._lengths)

        def quantile(share: float) -> int:
            return int(np.searchsorted(below, share * count)) if count else 0

        return CaptionReport(
            num_captions=count,
            mean_tokens=round(self._tokens / max(count, 1), 2),
            median_tokens=quantile(0.5),
            p95_tokens=quantile(0.95),
            max_tokens=int(self._lengths.nonzero()[0].max(initial=0)),
            text_len=self._text_len,
            cut_fraction=float(self._lengths[self._text_len + 1 :].sum() / max(count, 1)),
            unk_fraction=self._unk / max(self._tokens, 1),
            with_unk_fraction=self._with_unk / max(count, 1),
            num_all_unk=self._all_unk,
        )


@dataclass(frozen=True, kw_only=True)
class RepeatReport:
    """How often a key stands in the table again after its first time."""

    num_keys: int
    num_repeated: int
    examples: list[str]


class RepeatStats:
    """Finds repeated keys by a 64-bit hash, among the first MAX_SEEN different ones."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._keys = self._repeated = 0
        self._examples: dict[str, None] = {}

    def add(self, key: bytes, name: str = "") -> None:
        mark = int(sha256(key)[:16], 16)
        if mark in self._seen:
            self._repeated += 1
            if len(self._examples) < EXAMPLES:
                self._examples[name[:80]] = None
        elif len(self._seen) < MAX_SEEN:
            self._seen.add(mark)
        self._keys += 1

    def report(self) -> RepeatReport:
        return RepeatReport(num_keys=self._keys, num_repeated=self._repeated, examples=[*self._examples])


@dataclass(frozen=True, kw_only=True)
class PictureReport:
    """What the pictures that were decoded are like."""

    num_decoded: int
    formats: dict[str, int]
    modes: dict[str, int]
    sizes: dict[str, int]
    """`WIDTHxHEIGHT`, the ten most frequent."""
    median_bytes: int
    num_blank: int
    """One colour all over."""
    rejected: dict[str, int]
    """By reason."""


class PictureStats:
    """Formats and sizes, from headers, and blank pictures."""

    def __init__(self) -> None:
        self._formats: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._bytes: list[int] = []
        self._blank = 0

    def add(self, image: bytes, pixels: np.ndarray) -> None:
        """An encoded picture that was decoded to `pixels`, uint8 (S, S, 3)."""
        with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
            self._formats[str(picture.format)] += 1
            self._modes[picture.mode] += 1
            self._sizes["x".join(map(str, picture.size))] += 1
        self._bytes.append(len(image))
        self._blank += bool((pixels == pixels[0, 0]).all())

    def reject(self, reason: str) -> None:
        self._rejected[reason] += 1

    def report(self) -> PictureReport:
        return PictureReport(
            num_decoded=len(self._bytes),
            formats=dict(self._formats.most_common()),
            modes=dict(self._modes.most_common()),
            sizes=dict(self._sizes.most_common(10)),
            median_bytes=int(np.median(self._bytes)) if self._bytes else 0,
            num_blank=self._blank,
            rejected=dict(self._rejected.most_common()),
        )


@dataclass(frozen=True, kw_only=True)
class CodeReport:
    """Codes of the rows that were read."""

    num_rows: int
    image_len: int
    num_codes_used: int
    max_code: int
    num_repeated: int
    """Rows whose codes are those of an earlier row: the same picture, or a blank one."""
    num_uniform: int
    """Rows that hold one code only."""


class CodeStats:
    """Which codes are used, and rows with the same ones."""

    def __init__(self) -> None:
        self._used = np.zeros(65536, bool)
        self._rows = RepeatStats()
        self._image_len = self._uniform = 0

    def add(self, codes: np.ndarray) -> None:
        """uint16 (N, image_len)."""
        self._image_len = codes.shape[1]
        self._used[codes.ravel()] = True
        self._uniform += int((codes == codes[:, :1]).all(axis=1).sum())
        for row in codes:
            self._rows.add(row.tobytes())

    def report(self) -> CodeReport:
        rows = self._rows.report()
        return CodeReport(
            num_rows=rows.num_keys,
            image_len=self._image_len,
            num_codes_used=int(self._used.sum()),
            max_code=int(self._used.nonzero()[0].max(initial=0)),
            num_repeated=rows.num_repeated,
            num_uniform=self._uniform,
        )
