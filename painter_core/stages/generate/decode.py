"""The model operator where all codes are given: codes of a unit -> pictures, by the VQGAN alone.

A unit's payload is as in paint.py. Captions are carried on and not read: there is no tokenizer.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from painter_core.compute.devices import worker_device
from painter_core.errors import Reject
from painter_core.files.faults import failpoint
from painter_core.model_files.open import open_model
from painter_core.painting.picture_decoder import PictureDecoder
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.enlarge import Enlarger
from painter_core.stages.generate.row_checks import check_row
from painter_core.stages.pins import check_pins
from painter_core.tables.columns import PLACE
from painter_core.tables.rejects import RejectLog
from painter_core.tables.unit_row import UnitRow
from schemas.outputs import CODES_COLUMN


@dataclass(kw_only=True)
class DecodeUnits:
    """Model operator: codes -> pictures."""

    config: GenerateConfig
    identity: dict[str, Any]
    """Names the VQGAN by its content."""
    precision: str
    micro_batch_size: int
    compiled: bool = False
    gpu: bool = False
    """Whether Ray gives the worker a GPU."""

    def __post_init__(self) -> None:
        model = open_model(self.config.vqgan or self.config.checkpoint_dir)
        self._decoder = PictureDecoder(
            model,
            device=worker_device(gpu=self.gpu),
            precision=self.precision,
            micro_batch_size=self.micro_batch_size,
            compiled=self.compiled,
        )
        check_pins(str(model.path), {"vqgan_sha256": model.vqgan_sha256()}, self.identity)
        self._enlarge = Enlarger(self.config.upscaling, self.identity, self._decoder.device)

    def __call__(self, row: UnitRow) -> UnitRow:
        began = time.monotonic()
        config, vqgan = self.config, self._decoder.vqgan.config
        log = RejectLog(stage="generate", keep_cell=config.table.keep_rejected)
        kept, cells = [], []
        for i, line in enumerate(row.table.to_pylist()):
            try:
                check_row(config, line, vqgan)
                kept.append(i)
                cells.append(line["image"])
            except Reject as error:
                log.add(line, error, cell=line["image"])
        codes = np.frombuffer(b"".join(cells), "<u2").reshape(-1, vqgan.image_len)
        pixels = self._enlarge(self._decoder.whole(codes))
        failpoint("unit_computed", unit=row.unit)
        columns = [name for name in row.table.column_names if name not in (*PLACE, "image")]
        return row.keep(kept, log, columns).carrying(
            pixels=pixels.tobytes(),
            **({CODES_COLUMN: codes.tobytes()} if config.codes_column else {}),
            image_size=pixels.shape[1],
            image_len=vqgan.image_len,
            model_s=time.monotonic() - began,
        )
