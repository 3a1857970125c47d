"""The model operator of jobs/upscale.py: the pictures of a unit through a network, one at a time."""

import time
from dataclasses import dataclass
from pathlib import Path

from painter_core.compute.devices import worker_device
from painter_core.errors import Reject
from painter_core.files.faults import failpoint
from painter_core.files.storage import file_sha256
from painter_core.images.decode import ImageFormat, encode_image
from painter_core.stages.pins import check_pins
from painter_core.stages.upscale.pictures import check_cell_size, decoded, with_pictures
from painter_core.tables.columns import PLACE
from painter_core.tables.rejects import RejectLog
from painter_core.tables.unit_row import UnitRow
from painter_core.upscaling.upscaler import Upscaler


@dataclass(kw_only=True)
class EnlargeByNetwork:
    """Model operator: pictures -> larger ones."""

    upscaler: Upscaler
    image_format: ImageFormat
    column: str
    """The picture's, as rejects name it."""
    gpu: bool = False
    """Whether Ray gives the worker a GPU."""

    def __post_init__(self) -> None:
        self._enlarge = self.upscaler.load(worker_device(gpu=self.gpu))
        assert self.upscaler.file is not None
        pins = {"upscaler_sha256": file_sha256(Path(self.upscaler.file))}
        check_pins(self.upscaler.file, pins, self.upscaler.identity())

    def __call__(self, row: UnitRow) -> UnitRow:
        began = time.monotonic()
        log = RejectLog(stage="upscale")
        kept, found = [], []
        for i, line in enumerate(row.table.select([*PLACE, "idx", "pictures"]).to_pylist()):
            images = [
                encode_image(self._enlarge(decoded(image)), self.image_format) for image in line["pictures"]
            ]
            try:
                check_cell_size(images)
            except Reject as error:
                error.column = self.column
                log.add(line, error)
                continue
            kept.append(i)
            found.append(images)
        listed = row.table.column("listed").take(kept).to_pylist() if kept else []
        names = [name for name in row.table.column_names if name not in ("pictures", "listed")]
        done = with_pictures(row.keep(kept, log, names), found, listed)
        failpoint("unit_computed", unit=row.unit)
        return done.carrying(model_s=time.monotonic() - began)
