"""A codes table made in this process, without Ray: the job's own steps, one unit after the other."""

from pathlib import Path
from typing import Any

from painter_core.model_files.open import open_model
from painter_core.runs.flags import ModelFlags, PairFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts, Tasks, run_here
from painter_core.runs.table_run import TableRun
from painter_core.stages.parts import codes_table
from painter_core.stages.precompute_codes import EncodePictures, PrecomputeConfig, keep_vqgan, table_job
from painter_core.tables.part_writer import PartWriter
from tests.support.local_run import ALONE


def make_codes(
    pairs: Path, vqgan: Path, outputs: Path, *, units: int | None = None, idx_column: str = "idx", **more: Any
) -> Path:
    """A codes table; unfinished if only the first `units` units are to be done. `more`: of the config."""
    config = PrecomputeConfig(
        table=TableFlags(tables=str(pairs), outputs=str(outputs), max_reject_fraction=0.5),
        input=PairFlags(idx_column=idx_column),
        model=ModelFlags(micro_batch_size=16, precision="fp32"),
        vqgan=str(vqgan),
        **more,
    )
    model = open_model(str(vqgan))
    assert model.vqgan_config is not None
    with Run({}) as run:
        table = TableRun(table_job(config, model, ALONE), run, ALONE)
        keep_vqgan(model, table.directory, table.job.identity)
        encoder = {
            "vqgan": str(vqgan), "identity": table.job.identity, "precision": "fp32", "micro_batch_size": 16,
            "views": config.views.views(config.random_seed),
        }  # fmt: skip
        steps = (
            Tasks(operator=config.decoder(model.vqgan_config.image_size)),
            Actors(operator=EncodePictures, arguments=encoder),
        )
        if units is None:
            table.execute_here(*steps, parts=Parts(build=codes_table))
        else:
            writer = PartWriter(directory=table.directory, build=codes_table)
            for row in run_here(table.reader.read(table.plan.units[:units]), steps):
                writer(row)
    return outputs
