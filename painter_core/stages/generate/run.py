"""prompts -> pictures: a pool of painters, then PNG encoding on CPUs (stages/parts.py)."""

import dataclasses
import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from painter_core.compute.devices import Precision, compiled_parts, model_settings, painting_precision
from painter_core.files.storage import absolute
from painter_core.images.isolate import CellDecoder
from painter_core.model_files.caption_dropout import warn_of_gain
from painter_core.model_files.chinese_clip import open_clip
from painter_core.model_files.directory import ModelDirectory, weights_bytes
from painter_core.model_files.open import name_for_workers, open_model
from painter_core.models.chinese_clip import ChineseCLIP
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN
from painter_core.painting.graphs_probe import probe_graphs
from painter_core.painting.painter import CPU_ROWS, GPU_ROWS
from painter_core.runs.cluster import Cluster, start_ray
from painter_core.runs.gpus import find_gpus
from painter_core.runs.next_step import next_step
from painter_core.runs.nodes import all_have_amx, nodes_without_amx
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts, Step, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.codes_table import keep_vqgan
from painter_core.stages.decode_pictures import DecodePictures
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.decode import DecodeUnits
from painter_core.stages.generate.identity import (
    PREPROCESSING,
    identity,
    memory_per_row,
    open_decoder,
    row_bytes,
    upscaler_of,
)
from painter_core.stages.generate.paint import PaintUnits
from painter_core.tables.columns import PLACE
from painter_core.tables.run_directory import RunDirectory

log = logging.getLogger(__name__)

# pictures a GPU: 13 s of compiling beside 1.2 ms saved a picture, on an H200 (benchmarks/RESULTS.md)
COMPILED_FROM = 10_000


def for_workers(config: GenerateConfig, model: ModelDirectory) -> GenerateConfig:
    """Paths as workers find them; best/ of a run is resolved once: what a training publishes meanwhile is
    another model."""
    vqgan = name_for_workers(config.vqgan) if config.vqgan else None
    if config.choice.clip:
        choice = dataclasses.replace(config.choice, clip=absolute(config.choice.clip))
        config = dataclasses.replace(config, choice=choice)
    if config.upscaling.file:
        upscaling = dataclasses.replace(config.upscaling, upscaler=absolute(config.upscaling.file))
        config = dataclasses.replace(config, upscaling=upscaling)
    name = model.path if model.path.parent == Path(absolute(config.checkpoint_dir)) else config.checkpoint_dir
    return dataclasses.replace(config, checkpoint_dir=name_for_workers(str(name)), vqgan=vqgan)


def table_job(config: GenerateConfig, model: ModelDirectory, cluster: Cluster) -> TableJob:
    """The job that paints a table; ValueError if the model does not fit the flags."""
    made_by = identity(config, model)
    compiled = config.model.compile == "on"
    gpus = find_gpus(config.model, cluster, functools.partial(probe_graphs, compiled=compiled))
    planned = _planned_precision(config, made_by)
    precision = planned or painting_precision(
        config.model.precision, gpu=gpus.used, bf16=gpus.bf16, amx=all_have_amx
    )
    settings = model_settings(precision, config.model.compile, gpu=gpus.used)
    if gpus.used and config.model.graphs != "auto":
        settings["graphs"] = config.model.graphs
    settings["output_columns"] = list(config.output_columns)
    manifest: dict[str, Any] = {}
    if config.needs_gpt:
        manifest |= compiled_parts(settings, gpu=gpus.used, vqgan=config.needs_vqgan)
    columns = config.input.columns(config.extra, picture=config.start.column)
    vqgan, upscaler = model.require_vqgan(), upscaler_of(config)
    size = vqgan.image_size
    scale = upscaler.scale if upscaler else 1
    weights = weights_bytes(VQGAN, vqgan)
    if config.needs_gpt:
        weights += weights_bytes(GPT, model.require_gpt())
    others = (config.vqgan, config.upscaling.file, config.choice.clip)
    if config.choice.clip:
        weights += weights_bytes(ChineseCLIP, open_clip(config.choice.clip).config)
    if upscaler:  # which has a picture at a time
        weights += upscaler.weights_bytes + upscaler.memory_bytes(size, size)
        upscaler.log_memory(size, size)
    return TableJob(
        stage="generate",
        table="outputs" if config.decodes or not config.codes_column else "codes",
        flags=config.table,
        columns=dataclasses.replace(columns, codes=config.start.init_codes is not None),
        identity=made_by,
        model=config.model,
        settings=settings,
        row_bytes=row_bytes(config, model, scale),
        memory_per_row=memory_per_row(config, model, settings["precision"]),
        weights_bytes=weights,
        pictures_a_row=len(config.settings) * config.max_generated_num,
        picture_bytes=3 * (scale * size) ** 2,
        gpu_rows=GPU_ROWS,
        compiled_from=COMPILED_FROM if config.needs_gpt else TableJob.compiled_from,
        large_units=True,
        cpu_rows=CPU_ROWS,
        reads=(config.checkpoint_dir, *(name or "" for name in others)),
        manifest=manifest | ({"image_len": vqgan.image_len} if config.codes_column else {}),
    )


def _planned_precision(config: GenerateConfig, made_by: dict[str, Any]) -> Precision | None:
    """The precision of the run that stands in --outputs, if it is this one: it goes on as it began, also
    where auto would now be another."""
    if config.model.precision != "auto":
        return None
    stored = RunDirectory(absolute(config.table.outputs)).read_json("_run", "plan.json") or {}
    before = {k: v for k, v in stored.get("identity", {}).items() if k not in ("stage", "format")}
    return stored["settings"]["precision"] if before == json.loads(json.dumps(made_by)) else None


def warn_of_slow_nodes(precision: str, nodes: Callable[[], list[str]] = nodes_without_amx) -> None:
    """Says where a run meets CPUs that are slow in its precision.

    Args:
        precision: of the plan.
        nodes: finds those that are slow in bf16.
    """
    for node in nodes() if precision == "bf16" else ():
        log.warning(
            "%s: its CPU has no AMX for bf16, the precision of this run's plan, which is kept: it paints "
            "more slowly there",
            node,
        )


def keep_decoder(config: GenerateConfig, model: ModelDirectory, table: TableRun) -> None:
    """The VQGAN goes into a table with codes, which are of no use without it."""
    if table.writes and config.codes_column:
        keep_vqgan(open_decoder(config, model), table.directory, table.job.identity)


def steps_of(config: GenerateConfig, model: ModelDirectory, table: TableRun) -> tuple[Step, ...]:
    """What is done to every unit."""
    networks = {
        "config": config,
        "identity": table.job.identity,
        "precision": table.job.settings["precision"],
        "compiled": table.job.settings["compile"],
        "micro_batch_size": table.micro_batch_size,
        "gpu": table.resources.uses_gpu,
    }
    if not config.needs_gpt:
        return (Actors(operator=DecodeUnits, arguments=networks),)
    # of the steps that draw
    graphs = "off" if config.start.is_whole or not table.resources.uses_gpu else config.model.graphs
    paint = Actors(operator=PaintUnits, arguments=networks | {"graphs": graphs})
    if config.start.init_image is None:
        return (paint,)
    decode = DecodePictures(
        decode=CellDecoder(image_size=model.require_vqgan().image_size, **PREPROCESSING),
        column=config.start.init_image,
        keep_rejected=config.table.keep_rejected,
        stage="generate",
        columns=(*PLACE, "idx", "text", *config.extra),
    )
    return Tasks(operator=decode), paint


def generate(config: GenerateConfig, run: Run) -> None:
    """prompts -> pictures."""
    cluster = start_ray(config.model.gpu_wait())
    model = open_model(config.checkpoint_dir)
    config = for_workers(config, model)
    job = table_job(config, model, cluster)
    if "gain" in config.choice.scores:
        warn_of_gain(model)
    table = TableRun(job, run, cluster)
    if table.pending and not table.resources.uses_gpu:
        warn_of_slow_nodes(job.settings["precision"])
    keep_decoder(config, model, table)
    table.execute(*steps_of(config, model, table), parts=Parts(build=config.output_table(), cpus=1.0))
    run.then(next_step("generate", config.table.outputs, dry_run=config.table.dry_run))
