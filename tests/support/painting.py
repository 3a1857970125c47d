"""A tiny model that paints, and tables that it paints without Ray."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.painting.scores import ChoiceConfig
from painter_core.painting.starting import StartConfig
from painter_core.runs.flags import ModelFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts
from painter_core.runs.table_run import TableRun
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.run import for_workers, keep_decoder, steps_of, table_job
from painter_core.tables.manifest import iter_parts
from painter_core.text.prompt_style import PromptStyle
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.card import model_card
from painter_core.upscaling.flags import UpscaleFlags
from tests.support.jobs import SMALL_VQGAN
from tests.support.local_run import ALONE

CAPTIONS = ("红色的杯子", "蓝色条纹的背包", "黄色雨伞", "白色背景上的小靴子", "紫色圆点的大帽子")
NESTED = ("precision", "micro_batch_size", "compile")
CHOICE = ("keep_best", "rank_by", "clip", "score_columns")
START = ("init_image", "init_codes", "init_share")
UPSCALING = ("upscale", "upscaler", "upscale_tile")
STYLE = ("prompt_prefix", "prompt_suffix")


def write_painter(
    directory: Path,
    *,
    geometry: VQGANConfig = SMALL_VQGAN,
    caption_dropout: float | None = 0.1,
    scale: float = 12.0,
    seed: int = 3,
) -> Path:
    """A model with random weights whose logits differ as much as a trained one's."""
    torch.manual_seed(seed)
    vqgan, tokenizer = VQGAN(geometry), builtin_tokenizer()
    torch.nn.init.normal_(vqgan.quantize.embedding.weight, std=0.3)
    gpt = GPT(
        GPTConfig(
            text_vocab_size=tokenizer.vocab_size, codebook_size=geometry.codebook_size, text_len=8,
            image_len=geometry.image_len, n_layer=2, n_head=2, n_embd=32,
        )
    )  # fmt: skip
    with torch.no_grad():
        gpt.head.weight *= scale
        gpt.tok_emb.weight *= scale
    facts = {} if caption_dropout is None else {"caption_dropout": caption_dropout}
    card = model_card("A model for tests", "the tests", "", facts)
    write_model(directory, vqgan=vqgan, gpt=gpt, tokenizer=tokenizer, card=card)
    return directory


def write_prompts(path: Path, rows: int = len(CAPTIONS)) -> Path:
    """A TSV of captions p0, p1, ..."""
    lines = (f"p{i}\t{CAPTIONS[i % len(CAPTIONS)]}\n" for i in range(rows))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def config_of(model: Path, prompts: Path, outputs: Path, **flags: Any) -> GenerateConfig:
    """The config of a painting job in float32, 4 rows a call, with these flags."""
    run = {"precision": "fp32", "micro_batch_size": 4} | {k: flags.pop(k) for k in NESTED if k in flags}
    start = {k: flags.pop(k) for k in START if k in flags}
    upscaling = {k: flags.pop(k) for k in UPSCALING if k in flags}
    style = {k: flags.pop(k) for k in STYLE if k in flags}
    chosen = {k: flags.pop(k) for k in CHOICE if k in flags}
    tables = {"tables": str(prompts), "outputs": str(outputs), "max_reject_fraction": 0.9}
    tables |= {k: flags.pop(k) for k in ("overwrite",) if k in flags}
    return GenerateConfig(
        table=TableFlags(**tables),  # type: ignore[arg-type]
        model=ModelFlags(**run),  # type: ignore[arg-type]
        choice=ChoiceConfig(**chosen),
        start=StartConfig(**start),
        upscaling=UpscaleFlags(**upscaling),
        style=PromptStyle(**style),
        checkpoint_dir=str(model),
        **flags,
    )


def paint_table(config: GenerateConfig) -> pa.Table:
    """What jobs/generate.py writes, made in this process."""
    model = open_model(config.checkpoint_dir)
    config = for_workers(config, model)
    with Run({}) as run:
        table = TableRun(table_job(config, model, ALONE), run, ALONE)
        keep_decoder(config, model, table)
        table.execute_here(*steps_of(config, model, table), parts=Parts(build=config.output_table()))
    return pa.concat_tables(iter_parts(config.table.outputs))
