"""What a table holds: rows, units, rejects, captions, pictures, codes. Our own tables may be unfinished.

Rows are streamed in this process, without Ray. Of a large table evenly spread units are read (--max-rows), of
these evenly spread pictures are decoded (--max-pictures), in a child process.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from painter_core.easynlp.output import cells_of_output
from painter_core.errors import Refused, Reject
from painter_core.files.storage import filesystem, join, redact, write_bytes
from painter_core.images.cells import image_of_cell
from painter_core.images.isolate import CellDecoder, decoder
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.source import Rows, Source, open_source
from painter_core.stages.inspect_table.stats import (
    CaptionReport,
    CaptionStats,
    CodeReport,
    CodeStats,
    PictureReport,
    PictureStats,
    RepeatReport,
    RepeatStats,
)
from painter_core.tables.rejects import describe
from painter_core.text.tokenizer import builtin_tokenizer, load_tokenizer

SAMPLES = 8
REJECTS_SHOWN = 3  # of each reason
LOOKED_AT_PX = 32


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row of the table."""

    idx: str
    text: str
    file: str | None = None
    """Its picture, with --outputs."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a table holds; counts are of the rows that were read, unless `run` says more."""

    table: str
    kind: str
    """pairs, prompts, codes, outputs or scores."""
    schema: list[str]
    num_files: int
    num_bytes: int
    num_rows: int
    rows_read: int
    run: dict[str, Any] | None
    """What our own tables also say: stage, finished, units_done, units_left, rows_in, rows_out, ..."""
    rejects: dict[str, int]
    warnings: dict[str, int]
    captions: CaptionReport
    idx: RepeatReport
    pictures: PictureReport | None
    picture_cells: RepeatReport | None
    codes: CodeReport | None
    rejected: list[str]
    """A few rejected rows of each reason, and why."""
    samples: list[Sample]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)


def inspect(config: InspectConfig, *, samples: int = SAMPLES) -> Report:
    """Reads the table and writes samples, if asked for.

    Args:
        samples: how many rows are shown, evenly spread.

    Raises:
        ValueError: no such table, or one that cannot be read.
        Refused: --outputs holds something.
    """
    if config.outputs:
        _check_new(config.outputs)
    source = open_source(config)
    gathered = _Gathered(config, source, samples)
    look = CellDecoder(image_size=LOOKED_AT_PX, resize="bilinear", alpha="white")
    with decoder(look, in_child=True) as decode:
        for rows in source.read():
            gathered.add(rows, decode)
    return gathered.report()


def _check_new(outputs: str) -> None:
    fs, path = filesystem(outputs)
    if fs.exists(path) and (fs.isfile(path) or fs.ls(path)):
        raise Refused(f"{redact(outputs)} exists and is not empty; name a new --outputs")


class _Gathered:
    """What is known of the rows that went by."""

    def __init__(self, config: InspectConfig, source: Source, samples: int) -> None:
        self._config, self._source = config, source
        tokenizer = load_tokenizer(config.vocab) if config.vocab else builtin_tokenizer()
        self._captions = CaptionStats(tokenizer, config.text_len)
        self._idx, self._cells = RepeatStats(), RepeatStats()
        self._pictures, self._codes = PictureStats(), CodeStats()
        self._rejects: Counter[str] = Counter()
        self._warnings: Counter[str] = Counter()
        self._rejected: list[str] = []
        self._read = self._kept = 0
        expected = max(source.rows_to_read, 1)
        self._picture_step = -(-expected // config.max_pictures) if config.max_pictures else 0
        self._sample_at = {int((i + 0.5) * expected / samples) for i in range(samples)}
        self._samples: list[tuple[Sample, bytes | np.ndarray | None]] = []

    def add(self, rows: Rows, decode: Any) -> None:
        self._captions.add(rows.texts)
        self._warnings.update(rows.warnings)
        for line in rows.rejects:
            self._rejects[line["reason"]] += 1
            if self._rejects[line["reason"]] <= REJECTS_SHOWN:
                self._rejected.append(describe(line))
        if rows.codes is not None and len(rows.codes):
            self._codes.add(rows.codes)
        for i, (idx, text) in enumerate(zip(rows.idx, rows.texts, strict=True)):
            self._idx.add(idx.encode("utf-8", "surrogatepass"), idx)
            picture: bytes | np.ndarray | None = None if rows.codes is None else rows.codes[i]
            if rows.cells is not None:
                picture = self._add_cell(rows.cells[i], decode)
            if self._kept in self._sample_at:
                self._samples.append((Sample(idx=idx[:80], text=text[:200]), picture))
            self._kept += 1
        self._read += len(rows.idx) + len(rows.rejects)

    def _add_cell(self, cell: str | bytes | None, decode: Any) -> bytes | None:
        """The encoded picture, if it was looked at."""
        if cell:
            self._cells.add(cell.encode("utf-8", "replace") if isinstance(cell, str) else cell)
        looked_at = self._picture_step and self._kept % self._picture_step == 0
        if not looked_at and self._kept not in self._sample_at:
            return None
        try:
            one = cells_of_output(cell)[0]
            image = image_of_cell(one)
            self._pictures.add(image, decode(one, Counter(), row=self._kept))
            return image
        except Reject as error:
            self._pictures.reject(error.reason)
            return None

    def report(self) -> Report:
        source = self._source
        has_pictures = source.has_pictures
        return Report(
            table=redact(self._config.tables),
            kind=source.kind,
            schema=source.schema,
            num_files=source.num_files,
            num_bytes=source.num_bytes,
            num_rows=source.num_rows,
            rows_read=self._read,
            run=source.run,
            rejects=dict((source.rejects or self._rejects).most_common()),
            warnings=dict((source.warnings or self._warnings).most_common()),
            captions=self._captions.report(),
            idx=self._idx.report(),
            pictures=self._pictures.report() if has_pictures else None,
            picture_cells=self._cells.report() if has_pictures else None,
            codes=self._codes.report() if source.kind == "codes" else None,
            rejected=self._rejected,
            samples=list(self._write_samples()),
        )

    def _write_samples(self) -> Iterator[Sample]:
        outputs = self._config.outputs
        for number, (sample, picture) in enumerate(self._samples, 1):
            if outputs is None or picture is None:
                yield sample
                continue
            if isinstance(picture, np.ndarray):
                assert self._source.paint is not None
                picture = self._source.paint(picture)
            # a name of ours: idx and caption are not trusted
            path = join(outputs, f"sample-{number}.{_suffix(picture)}")
            write_bytes(*filesystem(path), picture)
            yield dataclasses.replace(sample, file=redact(path))


def _suffix(image: bytes) -> str:
    known = {b"\xff\xd8": "jpg", b"\x89P": "png", b"GI": "gif", b"BM": "bmp", b"RI": "webp"}
    return "avif" if image[4:8] == b"ftyp" else known.get(image[:2], "bin")
