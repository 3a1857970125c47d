"""Captions to pictures: paints a table of idx, text with a trained model and writes idx, text, gen_imgbase64.

python jobs/generate.py --tables prompts.tsv --checkpoint-dir model/ --outputs pictures.tsv
ray job submit --working-dir . -- python jobs/generate.py --tables s3://b/prompts/ --checkpoint-dir
s3://b/model/
    --outputs s3://b/pictures/
"""

import dataclasses
from typing import Any

from painter_core.compute.devices import model_settings
from painter_core.model_files.open import name_for_workers, open_model
from painter_core.runs.command_line import check_path, parse
from painter_core.runs.table_run import Job
from painter_core.stages.generate import (
    GPU_ROWS,
    GenerateConfig,
    PaintUnits,
    identity,
    memory_per_row,
    row_bytes,
)
from painter_core.tables.part_writer import PartWriter


def main() -> None:
    """Runs the job."""
    config = parse(GenerateConfig, __doc__, job="generate")
    with Job("generate", config.run, config.columns()) as job:
        check_path("--checkpoint-dir", config.checkpoint_dir)
        job.start()
        model = open_model(config.checkpoint_dir)
        settings = model_settings(config.run.precision, config.run.compile, gpu=job.resources.uses_gpu)
        vqgan = name_for_workers(config.vqgan) if config.vqgan else None
        config = dataclasses.replace(
            config, checkpoint_dir=name_for_workers(config.checkpoint_dir), vqgan=vqgan
        )
        made_by, size = identity(config, model), row_bytes(config, model)
        reads = (config.checkpoint_dir, vqgan or "")
        job.memory_per_row = memory_per_row(config, model, settings["precision"])
        job.gpu_rows = GPU_ROWS
        columns = {"output_columns": list(config.output_columns)}
        job.make_plan(made_by, settings | columns, row_bytes=size, reads=reads)
        paint: dict[str, Any] = {
            "config": config,
            "precision": settings["precision"],
            "compiled": settings["compile"],
            "micro_batch_size": job.micro_batch_size(),
        }
        if config.run.dry_run:
            job.sample(PaintUnits(**paint), build=config.output_table())
        writer = PartWriter(directory=job.directory, build=config.output_table())
        job.execute(
            lambda: (
                job.read()
                .map(PaintUnits, fn_constructor_kwargs=paint, **job.resources.actors(len(job.pending)))
                .map(writer.__call__, **job.resources.tasks(1.0))
            ),
            extra={"table": "outputs"},
        )


if __name__ == "__main__":
    main()
