"""What makes the pictures of a run: models, settings; and how much memory and space a row needs."""

import dataclasses
from typing import Any

from painter_core.compute.memory import gpt_row_bytes, vqgan_row_bytes
from painter_core.images.decode import MAX_PIXELS
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.expected import check_expected
from painter_core.model_files.open import open_model
from painter_core.stages.codes_table import check_made_by, has_codes
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.pins import clip_pins, model_pins
from painter_core.tables.run_directory import table_url
from painter_core.upscaling.upscaler import Upscaler, plan_upscaler
from schemas.pairs import MAX_CELL_BYTES

PREPROCESSING: dict[str, Any] = {"resize": "bilinear", "alpha": "white"}
"""How pictures that are painted on are prepared: the defaults of jobs/precompute_codes.py."""


def open_decoder(config: GenerateConfig, model: ModelDirectory) -> ModelDirectory:
    """The directory whose VQGAN decodes; ValueError if its codes are others than the model's."""
    if config.vqgan is None:
        return model
    other = open_model(config.vqgan)
    if (other.vqgan_config, other.codes_sha256()) != (model.vqgan_config, model.codes_sha256()):
        raise ValueError(
            f"--vqgan {config.vqgan}: makes other codes than the VQGAN of {config.checkpoint_dir}; only one "
            "that was trained from it with --decoder-only can take its place"
        )
    return other


def identity(config: GenerateConfig, model: ModelDirectory) -> dict[str, Any]:
    """What makes the pictures; ValueError if the model does not fit the flags.

    The GPT and its tokenizer are named only where they are read: what is decoded depends on the VQGAN alone.
    """
    if config.needs_gpt:
        _check_gpt(config, model)
    else:
        model = dataclasses.replace(model, gpt_config=None)  # whatever becomes of it
    check_expected(config.expect, vqgan=model.require_vqgan(), gpt=model.gpt_config)
    check_given_codes(config)
    model.check_weights()
    return {
        "vqgan_sha256": open_decoder(config, model).vqgan_sha256(),
        **_gpt(config, model),
        **_drawn(config),
        "image_format": config.image_format,
        **({"easynlp_format": True} if config.easynlp_format else {}),
        **_chosen(config),
        **(clip_pins(config.choice.clip) if config.choice.clip else {}),
        **_start(config, model),
        **_upscale(config, model),
        **config.style.identity(),
    }


def _check_gpt(config: GenerateConfig, model: ModelDirectory) -> None:
    """Raises ValueError if there is no GPT, or one that does not fit the flags."""
    if model.gpt_config is None or model.vqgan_config is None:
        raise ValueError(
            f"--checkpoint-dir {config.checkpoint_dir}: needs a GPT and a VQGAN (jobs/train.py writes both); "
            "a VQGAN alone decodes whole --init-codes, without --score-columns and --easynlp-format"
        )
    if config.sequence_length not in (None, model.gpt_config.block_size):
        raise ValueError(
            f"--sequence-length {config.sequence_length}: the model has {model.gpt_config.block_size} "
            "positions"
        )
    config.choice.check_model(model.gpt_config)


def _gpt(config: GenerateConfig, model: ModelDirectory) -> dict[str, Any]:
    """What draws or scores; nothing if a VQGAN decodes alone."""
    if model.gpt_config is None:
        return {}
    config.style.check_room(model.load_tokenizer(), model.gpt_config.text_len)
    return model_pins(model, text_head=config.choice.needs_captioner)


def check_given_codes(config: GenerateConfig) -> None:
    """Raises ValueError if a table with --init-codes says that another VQGAN made its codes."""
    for table in config.table.tables.split(",") if config.start.init_codes is not None else ():
        if has_codes(table.strip()):
            check_made_by(table_url(table.strip()), config.checkpoint_dir)


def upscaler_of(config: GenerateConfig) -> Upscaler | None:
    """What enlarges the pictures; None if they stay as they are painted."""
    return plan_upscaler(config.upscaling) if config.upscaling.wanted else None


def _upscale(config: GenerateConfig, model: ModelDirectory) -> dict[str, Any]:
    """How pictures are enlarged; nothing if they are not. ValueError if no job could read the result."""
    upscaler = upscaler_of(config)
    if upscaler is None:
        return {}
    side = model.require_vqgan().image_size * upscaler.scale
    in_a_cell = config.pictures_a_row if config.easynlp_format else 1
    # of the cells an estimate: as PNG in base64, about 4 bytes for 3 pixels
    if side**2 > MAX_PIXELS or in_a_cell * side**2 * 4 // 3 > MAX_CELL_BYTES:
        raise ValueError(
            f"--upscale {upscaler.scale}: {in_a_cell} pictures of {side}x{side} pixels a cell; a picture has "
            f"at most {MAX_PIXELS:,} pixels, and a cell {MAX_CELL_BYTES:,} bytes, or no job would read it"
        )
    return {"upscale": upscaler.identity()}


def _drawn(config: GenerateConfig) -> dict[str, Any]:
    """How codes are drawn; nothing if all are given."""
    if config.start.is_whole:
        return {}
    return {
        "seed": config.random_seed,
        "sampling": dataclasses.asdict(config.sampling),
        "max_generated_num": config.max_generated_num,
    }


def _start(config: GenerateConfig, model: ModelDirectory) -> dict[str, Any]:
    """What the pictures that are painted on are; nothing if there are none."""
    rows = config.start.num_rows(model.require_vqgan())
    given = PREPROCESSING if config.start.init_codes is None else {"given": "codes"}
    return {"start": {"rows": rows, **given}} if rows else {}


def _chosen(config: GenerateConfig) -> dict[str, Any]:
    """How pictures are chosen and what is told of them; nothing by default, so that old runs go on."""
    choice = config.choice
    found: dict[str, Any] = {}
    if choice.keep_best is not None:
        found |= {"keep_best": choice.keep_best, "rank_by": choice.ranked_by}
    if config.sweep:
        found |= {"sweep": [dataclasses.asdict(setting) for setting in config.settings]}
    if config.codes_column:
        found |= {"codes_column": True}
    if choice.score_columns:
        found |= {"scores": list(choice.scores)}
    return found


def row_bytes(config: GenerateConfig, model: ModelDirectory, scale: int = 1) -> int:
    """About how many bytes are written for a row: as PNG, a picture has about a byte a pixel.

    Args:
        scale: how many times larger pictures become.
    """
    # the parts, and the single file made of them
    files = 2 if config.table.outputs.endswith((".tsv", ".parquet")) else 1
    return files * config.pictures_a_row * (scale * model.require_vqgan().image_size) ** 2


def memory_per_row(config: GenerateConfig, model: ModelDirectory, precision: str) -> int:
    """Bytes that the model needs for a picture: in sampling, then in the decoder."""
    vqgan = model.require_vqgan()
    if not config.needs_gpt:
        return vqgan_row_bytes(vqgan, precision)
    gpt, first = model.require_gpt(), config.start.num_rows(vqgan) * vqgan.grid_size
    # one pass over all positions, as over so long a text
    if config.start.is_whole or {"gain", "caption"} & {*config.choice.scores}:
        gpt = dataclasses.replace(gpt, text_len=gpt.block_size - 1, image_len=1)
    else:
        gpt = dataclasses.replace(gpt, text_len=gpt.text_len + first, image_len=gpt.image_len - first)
    sampling = max(setting.rows_per_picture for setting in config.settings) * gpt_row_bytes(gpt, precision)
    return sampling + vqgan_row_bytes(vqgan, precision)
