"""How fast CPUs feed a model worker: the precompute job with its model left out, beside decoding alone."""

import os
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.jobs import steady_rate, write_pairs
from benchmarks.limits import Peaks
from benchmarks.measure import Row, Setup
from benchmarks.models import vqgan_config
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import decode_image
from painter_core.models.vqgan import VQGANConfig
from painter_core.runs.cluster import start_ray
from painter_core.runs.flags import ModelFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.parts import codes_table
from painter_core.stages.precompute_codes import PrecomputeConfig
from painter_core.tables.unit_row import UnitRow

DECODED = 2048  # pictures, for the rate of decoding alone


class NoModel:
    """Takes the pixels of a unit into an array, as a model worker does, and makes up its codes."""

    def __init__(self, geometry: VQGANConfig) -> None:
        self._geometry = geometry

    def __call__(self, row: UnitRow) -> UnitRow:
        size, length = self._geometry.image_size, self._geometry.image_len
        pixels = np.frombuffer(row.payload["pixels"], np.uint8).reshape(-1, size, size, 3)
        codes = np.zeros((len(pixels), length), np.uint16)
        return row.carrying(codes=codes.tobytes(), image_len=length, model_s=0.0)


def feeding(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """Cells of a table to pixels, decoded in one process, then under Ray until a worker has them."""
    count, geometry = 64 if setup.short else 16_384, vqgan_config(setup)
    size = geometry.image_size
    with tempfile.TemporaryDirectory() as name:
        table, outputs = write_pairs(Path(name) / "pairs.tsv", count, size), Path(name) / "codes"
        with table.open(encoding="utf-8") as file:
            cells = [line.rstrip("\n").split("\t")[2] for line in islice(file, DECODED)]
        began = time.perf_counter()
        for cell in cells:
            decode_image(image_of_cell(cell), size)
        alone = len(cells) / (time.perf_counter() - began)
        part = f"pictures fed, JPEG {size} x {size}"
        yield Row(part=part, variant="decoding in one process", rate=alone, unit="picture/s", ratio=1.0)
        flags = TableFlags(tables=str(table), outputs=str(outputs))
        _run(PrecomputeConfig(table=flags, model=ModelFlags(micro_batch_size=16)), geometry)
        rate, cpus = steady_rate(outputs), os.cpu_count() or 1
        note = f"{rate / (cpus * alone):.0%} of {cpus} such processes"
        share = rate / alone
        yield Row(part=part, variant="under Ray", rate=rate, unit="picture/s", ratio=share, note=note)


def _run(config: PrecomputeConfig, geometry: VQGANConfig) -> None:
    """The job in this process, which becomes the driver."""
    with Run(config.paths()) as run:
        cluster = start_ray()
        job = TableJob(
            stage="precompute",
            table="codes",
            flags=config.table,
            columns=config.input.columns(),
            identity={"model": "none"},
            model=config.model,
            manifest={"image_len": geometry.image_len},
        )
        TableRun(job, run, cluster).execute(
            Tasks(operator=config.decoder(geometry.image_size)),
            Actors(operator=NoModel, arguments={"geometry": geometry}),
            parts=Parts(build=codes_table),
        )
