"""How fast CPUs feed a model worker: the precompute job with its model left out, beside decoding alone."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.jobs import steady_rate, write_pairs
from benchmarks.limits import Peaks
from benchmarks.measure import Row, Setup
from benchmarks.models import vqgan_config
from painter_core.images import decode_image, image_of_cell
from painter_core.stages.commit import PartWriter
from painter_core.stages.parts import codes_table
from painter_core.stages.precompute import PrecomputeConfig
from painter_core.stages.run import Job
from painter_core.stages.run_config import RunConfig

IMAGE_LEN = 256


class NoModel:
    """Takes the pixels of a unit into an array, as a model worker does, and makes up its codes."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        pixels = np.frombuffer(row.pop("pixels"), np.uint8).reshape(-1, self._size, self._size, 3)
        codes = np.zeros((len(pixels), IMAGE_LEN), np.uint16)
        return row | {"codes": codes.tobytes(), "image_len": IMAGE_LEN, "model_s": 0.0}


def feeding(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """Cells of a table to pixels, decoded in one process, then under Ray until a worker has them."""
    count, size = 64 if setup.short else 16_384, vqgan_config(setup).image_size
    with tempfile.TemporaryDirectory() as name:
        table, outputs = write_pairs(Path(name) / "pairs.tsv", count, size), Path(name) / "codes"
        with table.open(encoding="utf-8") as file:
            cells = [line.rstrip("\n").split("\t")[2] for _, line in zip(range(2048), file, strict=False)]
        began = time.perf_counter()
        for cell in cells:
            decode_image(image_of_cell(cell), size)
        alone = len(cells) / (time.perf_counter() - began)
        part = f"pictures fed, JPEG {size} x {size}"
        yield Row(part=part, variant="decoding in one process", rate=alone, unit="picture/s", ratio=1.0)
        run = RunConfig(tables=str(table), outputs=str(outputs), micro_batch_size=16)
        _run(PrecomputeConfig(run=run), size)
        rate, cpus = steady_rate(outputs), os.cpu_count() or 1
        note = f"{rate / (cpus * alone):.0%} of {cpus} such processes"
        yield Row(
            part=part, variant="under Ray", rate=rate, unit="picture/s", ratio=rate / alone, note=note
        )  # fmt: skip


def _run(config: PrecomputeConfig, size: int) -> None:
    """The job in this process, which becomes the driver."""
    workers: Any = NoModel  # Ray's annotation of map() knows functions only
    with Job("precompute", config.run, config.columns()) as job:
        job.start()
        job.make_plan({"model": "none"}, {})
        writer = PartWriter(directory=job.directory, build=codes_table)
        job.execute(
            lambda: (
                job.read()
                .map(config.decoder(size).__call__, **job.resources.tasks(1.0))
                .map(workers, fn_constructor_args=(size,), **job.resources.actors(len(job.pending)))
                .map(writer.__call__, **job.resources.tasks(0.5))
            ),
            extra={"table": "codes", "image_len": IMAGE_LEN},
        )
