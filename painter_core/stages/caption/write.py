"""The model operator: pixels or codes of a unit -> the rows of its part.

A unit's payload is first `pixels`, uint8 (N, S, S, 3) as bytes (stages/decode_pictures.py), or nothing where
the column `image` holds codes; then `captions`, the part's table, packed.
"""

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from painter_core.compute.devices import worker_device
from painter_core.errors import Reject
from painter_core.files.faults import failpoint
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.open import open_model
from painter_core.painting.captioner import Captioner, Captions
from painter_core.painting.given_codes import codes_problem
from painter_core.stages.caption.config import CaptionConfig
from painter_core.stages.pins import check_pins, model_pins
from painter_core.tables.columns import PLACE
from painter_core.tables.rejects import RejectLog
from painter_core.tables.row_checks import check_seen, check_tsv_text
from painter_core.tables.unit_row import UnitRow, pack
from schemas import captions


def caption_pins(model: ModelDirectory) -> dict[str, str]:
    """Sums of all that captions."""
    return model_pins(model, text_head=True) | {"vqgan_sha256": model.vqgan_sha256()}


@dataclass(kw_only=True)
class CaptionUnits:
    """Model operator: pictures or codes -> captions."""

    config: CaptionConfig
    identity: dict[str, Any]
    """Names the model by its content."""
    precision: str
    micro_batch_size: int
    compiled: bool = False
    gpu: bool = False
    """Whether Ray gives the worker a GPU."""

    def __post_init__(self) -> None:
        model = open_model(self.config.checkpoint_dir)
        self._captioner = Captioner(
            model,
            device=worker_device(gpu=self.gpu),
            precision=self.precision,
            sampling=self.config.sampling,
            seed=self.config.random_seed,
            micro_batch_size=self.micro_batch_size,
            max_generated_num=self.config.max_generated_num,
            compiled=self.compiled,
        )
        check_pins(str(model.path), caption_pins(model), self.identity)

    def __call__(self, row: UnitRow) -> UnitRow:
        began = time.monotonic()
        log = RejectLog(stage="caption", keep_cell=self.config.table.keep_rejected)
        lines, notes = row.table.to_pylist(), Counter(row.warnings)
        kept = self._usable(lines, log)
        codes = self._codes(row, lines, kept)
        texts = [lines[i]["text"] for i in kept] if self.config.score_only else []
        if texts:
            found = self._captioner.score(codes, texts)
            seen = self._captioner.text_ids(texts)
            notes.update(text_cut=int((seen.num_tokens > seen.ids.shape[1]).sum()))
            notes.update(text_unk=int((seen.num_unk > 0).sum()))
        else:
            found = self._captioner.write(codes, [lines[i]["idx"] for i in kept])
        failpoint("unit_computed", unit=row.unit)
        names = [n for n in row.table.column_names if n not in (*PLACE, "image")]
        done = dataclasses.replace(row.keep(kept, log, names), warnings=+notes)
        table = self._part(done.table, found)
        return done.carrying(captions=pack(table), model_s=time.monotonic() - began)

    def _usable(self, lines: list[dict[str, Any]], log: RejectLog) -> list[int]:
        """Positions of the rows that can be captioned; the others are rejected."""
        given = self.config.score_only and bool(lines)
        seen = self._captioner.text_ids([line["text"] for line in lines]) if given else None
        column, kept = self.config.input.first_sequence, []
        for i, line in enumerate(lines):
            try:
                if seen is not None:
                    length = seen.ids.shape[1]
                    check_seen(int(seen.num_tokens[i]), int(seen.num_unk[i]), length, column)
                if "image" in line:
                    codes = np.frombuffer(line["image"], "<u2")
                    if problem := codes_problem(codes, self._captioner.vqgan.config):
                        raise Reject("codes_invalid", problem, "codes")
                if self.config.table.outputs.endswith(".tsv"):
                    for name in (*(("text",) if self.config.score_only else ()), *self.config.extra):
                        check_tsv_text(line[name], name)
                kept.append(i)
            except Reject as error:
                log.add(line, error)
        return kept

    def _codes(self, row: UnitRow, lines: list[dict[str, Any]], kept: list[int]) -> np.ndarray:
        """Codes int64 (n, L) of the rows that are kept."""
        if "pixels" not in row.payload:
            cells = b"".join(lines[i]["image"] for i in kept)
            return np.frombuffer(cells, "<u2").astype(np.int64).reshape(-1, self._captioner.config.image_len)
        size = self._captioner.vqgan.config.image_size
        pictures = np.frombuffer(row.payload["pixels"], np.uint8).reshape(-1, size, size, 3)
        return self._captioner.encode(pictures[kept])

    def _part(self, rows: pa.Table, found: Captions) -> pa.Table:
        """The part's table: a row a caption."""
        each = len(found.texts) // max(len(rows), 1)
        source = np.repeat(np.arange(len(rows)), each)
        mean = found.scores / np.maximum(found.num_tokens, 1).astype(np.float32)
        made = {
            captions.GIVEN if self.config.score_only else captions.TEXT: found.texts,
            captions.SAMPLE: np.tile(np.arange(each, dtype=np.int32), len(rows)),
            captions.SCORE: found.scores,
            captions.MEAN: mean,
        }
        carried = rows.take(pa.array(source, pa.int64()))
        schema = captions.schema(self.config.output_columns)
        arrays = [
            pa.array(made[name], schema.field(name).type)
            if name in made
            else carried.column(name).combine_chunks()
            for name in schema.names
        ]
        return pa.Table.from_arrays(arrays, schema=schema)
