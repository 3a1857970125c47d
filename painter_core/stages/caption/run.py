"""pictures or codes -> captions: pictures are decoded on CPUs, a pool of workers encodes and writes."""

import dataclasses
from typing import Any

from painter_core.compute.devices import compiled_parts, model_settings
from painter_core.compute.memory import gpt_row_bytes, vqgan_row_bytes
from painter_core.files.storage import redact
from painter_core.images.isolate import CellDecoder
from painter_core.model_files.directory import ModelDirectory, weights_bytes
from painter_core.model_files.expected import check_expected
from painter_core.model_files.open import name_for_workers, open_model
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN
from painter_core.runs.cluster import Cluster, start_ray
from painter_core.runs.gpus import find_gpus
from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts, Step, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.caption.config import CaptionConfig
from painter_core.stages.caption.part import captions_part
from painter_core.stages.caption.write import CaptionUnits, caption_pins
from painter_core.stages.codes_table import check_made_by, has_codes
from painter_core.stages.decode_pictures import DecodePictures
from painter_core.tables.columns import PLACE
from painter_core.tables.run_directory import table_url

ROW_BYTES = 200  # of a caption with its idx and scores


def open_captioner(config: CaptionConfig) -> ModelDirectory:
    """The model; ValueError unless it captions, and is what the flags say."""
    model, name = open_model(config.checkpoint_dir), redact(config.checkpoint_dir)
    if model.gpt_config is None or model.vqgan_config is None:
        raise ValueError(f"--checkpoint-dir {name}: needs a GPT and a VQGAN (jobs/train.py writes both)")
    if not model.gpt_config.captions:
        raise ValueError(
            f"--checkpoint-dir {name}: this model only paints; train it with jobs/train.py "
            f"--pretrained-model-name-or-path {name} --image-to-text 0.5"
        )
    if config.sequence_length not in (None, model.gpt_config.block_size):
        raise ValueError(
            f"--sequence-length {config.sequence_length}: the model has {model.gpt_config.block_size} "
            "positions"
        )
    check_expected(config.expect, vqgan=model.vqgan_config, gpt=model.gpt_config)
    model.check_weights()
    return model


def identity(config: CaptionConfig, model: ModelDirectory, *, is_codes: bool) -> dict[str, Any]:
    """What makes the captions."""
    made: dict[str, Any] = {**caption_pins(model)}
    if not is_codes:
        size, how = model.require_vqgan().image_size, {"resize": config.resize, "alpha": config.alpha}
        made["preprocessing"] = {"image_size": size, **how, "exif": "ignore"}
    if config.score_only:
        return made | {"score_only": True}
    drawn = {"seed": config.random_seed, "sampling": dataclasses.asdict(config.sampling)}
    return made | drawn | {"max_generated_num": config.max_generated_num}


def table_job(config: CaptionConfig, model: ModelDirectory, cluster: Cluster) -> TableJob:
    """The job that captions a table; ValueError if table and model do not fit."""
    is_codes, flags = has_codes(config.table.tables), config.table
    if is_codes:
        flags = dataclasses.replace(flags, tables=table_url(flags.tables))
        check_made_by(flags.tables, config.checkpoint_dir)
    gpus = find_gpus(config.model, cluster)
    settings = model_settings(config.model.precision, config.model.compile, gpu=gpus.used, bf16=gpus.bf16)
    settings["output_columns"] = list(config.output_columns)
    parts = compiled_parts(settings, gpu=gpus.used, vqgan=not is_codes)
    gpt, vqgan = model.require_gpt(), model.require_vqgan()
    return TableJob(
        stage="caption",
        table="captions",
        flags=flags,
        columns=config.columns(is_codes=is_codes),
        identity=identity(config, model, is_codes=is_codes),
        model=config.model,
        settings=settings,
        row_bytes=ROW_BYTES * config.max_generated_num,
        memory_per_row=memory_per_row(config, model, settings["precision"]),
        weights_bytes=weights_bytes(GPT, gpt) + weights_bytes(VQGAN, vqgan),
        picture_bytes=0 if is_codes else 3 * vqgan.image_size**2,
        reads=(config.checkpoint_dir,),
        manifest=parts,
    )


def memory_per_row(config: CaptionConfig, model: ModelDirectory, precision: str) -> int:
    """Bytes that the models need for a picture: in the encoder, then while its captions are written."""
    gpt = model.require_gpt()
    turned = dataclasses.replace(
        gpt, text_len=gpt.image_len, image_len=gpt.text_len, codebook_size=min(gpt.text_vocab_size, 65536)
    )
    rows = max(config.max_generated_num, config.sampling.beam)
    return rows * gpt_row_bytes(turned, precision) + vqgan_row_bytes(model.require_vqgan(), precision)


def steps_of(config: CaptionConfig, model: ModelDirectory, table: TableRun) -> tuple[Step, ...]:
    """What is done to every unit."""
    arguments = {
        "config": config,
        "identity": table.job.identity,
        "precision": table.job.settings["precision"],
        "compiled": table.job.settings["compile"],
        "micro_batch_size": table.micro_batch_size,
        "gpu": table.resources.uses_gpu,
    }
    write = Actors(operator=CaptionUnits, arguments=arguments)
    if table.job.columns.codes:
        return (write,)
    size, given = model.require_vqgan().image_size, ("text",) if config.score_only else ()
    decode = DecodePictures(
        decode=CellDecoder(image_size=size, resize=config.resize, alpha=config.alpha),
        column=config.input.second_sequence,
        keep_rejected=config.table.keep_rejected,
        stage="caption",
        columns=tuple(dict.fromkeys((*PLACE, "idx", *given, *config.extra))),
    )
    return Tasks(operator=decode), write


def caption(config: CaptionConfig, run: Run) -> None:
    """pictures or codes -> captions."""
    cluster = start_ray(config.model.gpu_wait())
    model = open_captioner(config)
    # best/ of a run is resolved once: what a training publishes meanwhile is another model
    config = dataclasses.replace(config, checkpoint_dir=name_for_workers(str(model.path)))
    table = TableRun(table_job(config, model, cluster), run, cluster)
    table.execute(*steps_of(config, model, table), parts=Parts(build=captions_part))
    run.then(next_step("caption", config.table.outputs, dry_run=config.table.dry_run))
