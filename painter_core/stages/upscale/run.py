"""tables of pictures -> the same tables with larger pictures."""

import dataclasses

from painter_core.runs.cluster import start_ray
from painter_core.runs.gpus import log_models
from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts, Step, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.stages.upscale.network import EnlargeByNetwork
from painter_core.stages.upscale.pictures import EnlargeCell, EnlargedTable, EnlargePictures
from painter_core.stages.upscale.source import Source, find_source
from painter_core.tables.columns import PLACE
from painter_core.tables.unit_row import pack_schema
from painter_core.upscaling.upscaler import Upscaler, plan_upscaler

PNG_GROWTH = 4  # a picture may come as JPEG and goes as PNG


def upscale(config: UpscaleConfig, run: Run) -> None:
    """pictures -> larger pictures."""
    upscaler, source = plan_upscaler(config.upscaling), find_source(config)
    upscaler.log_memory()
    cluster = start_ray(config.model_flags().gpu_wait())
    if upscaler.file is not None:
        log_models(config.model_flags(), cluster)
    table = TableRun(table_job(config, source, upscaler), run, cluster)
    table.execute(*steps_of(config, source, upscaler, table), parts=parts_of(source))
    run.then(next_step("upscale", config.table.outputs, dry_run=config.table.dry_run))


def table_job(config: UpscaleConfig, source: Source, upscaler: Upscaler) -> TableJob:
    """The job that enlarges the pictures of a table."""
    larger = upscaler.scale**2
    files = 2 if config.table.outputs.endswith((".tsv", ".parquet")) else 1  # the parts, and one made of them
    return TableJob(
        stage="upscale",
        table="outputs",
        flags=dataclasses.replace(config.table, tables=source.tables),
        columns=source.columns,
        identity={"image_format": config.image_format, "alpha": "white", **upscaler.identity()},
        model=config.model_flags(),
        settings={"output_columns": source.schema.names},
        memory_per_row=upscaler.memory_bytes(),
        weights_bytes=upscaler.weights_bytes,
        row_bytes=files * larger * source.row_bytes,
        growth=PNG_GROWTH * larger,
        reads=(upscaler.file,) if upscaler.file else (),
        manifest={"painted": source.painted} if source.painted else {},
    )


def steps_of(config: UpscaleConfig, source: Source, upscaler: Upscaler, table: TableRun) -> tuple[Step, ...]:
    """What is done to every unit."""
    enlarge = EnlargePictures(
        enlarge=EnlargeCell(
            scale=upscaler.scale, by_lanczos=upscaler.file is None, image_format=config.image_format
        ),
        column=config.second_sequence,
        columns=(*(PLACE if upscaler.file else ()), "idx", *source.columns.extra),
        texts=source.texts if config.table.outputs.endswith(".tsv") else (),
        keep_rejected=config.table.keep_rejected,
    )
    if upscaler.file is None:
        return (Tasks(operator=enlarge),)
    network = {
        "upscaler": upscaler,
        "image_format": config.image_format,
        "column": config.second_sequence,
        "gpu": table.resources.uses_gpu,
    }
    return Tasks(operator=enlarge), Actors(operator=EnlargeByNetwork, arguments=network)


def parts_of(source: Source) -> Parts:
    """The last step."""
    picture = source.columns.image
    assert picture is not None
    return Parts(
        build=EnlargedTable(schema=pack_schema(source.schema), idx=source.columns.idx, picture=picture)
    )
