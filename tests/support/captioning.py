"""A tiny model that captions, and tables that it captions without Ray."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from painter_core.model_files.directory import write_model
from painter_core.models.gpt import CAPTIONS, GPT, PAINTS, GPTConfig
from painter_core.models.vqgan import VQGAN
from painter_core.painting.caption_sampling import CaptionSampling
from painter_core.runs.flags import ModelFlags, PairFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts
from painter_core.runs.table_run import TableRun
from painter_core.stages.caption.config import CaptionConfig
from painter_core.stages.caption.part import captions_part
from painter_core.stages.caption.run import open_captioner, steps_of, table_job
from painter_core.tables.manifest import iter_parts
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.card import model_card
from tests.support.jobs import SMALL_VQGAN
from tests.support.local_run import ALONE

SAMPLING = ("top_k", "top_p", "temperature", "beam")
TABLE = ("max_reject_fraction", "overwrite", "keep_rejected")
INPUT = ("input_schema", "first_sequence", "second_sequence")


def write_captioner(directory: Path, *, scale: float = 6.0) -> Path:
    """A model of both directions with random weights whose logits differ as much as a trained one's."""
    torch.manual_seed(3)
    vqgan, tokenizer = VQGAN(SMALL_VQGAN), builtin_tokenizer()
    torch.nn.init.normal_(vqgan.quantize.embedding.weight, std=0.3)
    gpt = GPT(
        GPTConfig(
            text_vocab_size=tokenizer.vocab_size, codebook_size=SMALL_VQGAN.codebook_size, text_len=8,
            image_len=SMALL_VQGAN.image_len, n_layer=2, n_head=2, n_embd=32, directions=(PAINTS, CAPTIONS),
        )
    )  # fmt: skip
    with torch.no_grad():
        for weight in (gpt.head.weight, gpt.text_head.weight, gpt.tok_emb.weight):
            weight *= scale
        torch.nn.init.normal_(gpt.ln_f.bias, std=0.1)
        gpt.text_head.weight[0] += 4.5 * gpt.ln_f.bias  # some captions end early
    card = model_card("A model for tests", "the tests", "", {"caption_dropout": 0.1})
    write_model(directory, vqgan=vqgan, gpt=gpt, tokenizer=tokenizer, card=card)
    return directory


def config_of(model: Path, tables: Path, outputs: Path, **flags: Any) -> CaptionConfig:
    """The config of a captioning job in float32, 4 rows a call, with these flags."""
    table = {"max_reject_fraction": 0.9} | {k: flags.pop(k) for k in TABLE if k in flags}
    sampling = {k: flags.pop(k) for k in SAMPLING if k in flags}
    given = {k: flags.pop(k) for k in INPUT if k in flags}
    rows = flags.pop("micro_batch_size", 4)
    return CaptionConfig(
        table=TableFlags(tables=str(tables), outputs=str(outputs), **table),
        input=PairFlags(**given),
        model=ModelFlags(precision="fp32", micro_batch_size=rows),
        sampling=CaptionSampling(**sampling),
        checkpoint_dir=str(model),
        **flags,
    )


def caption_table(config: CaptionConfig) -> pa.Table:
    """What jobs/caption.py writes, made in this process."""
    model = open_captioner(config)
    config = dataclasses.replace(config, checkpoint_dir=str(model.path))
    with Run({}) as run:
        table = TableRun(table_job(config, model, ALONE), run, ALONE)
        table.execute_here(*steps_of(config, model, table), parts=Parts(build=captions_part))
    return pa.concat_tables(iter_parts(config.table.outputs))
