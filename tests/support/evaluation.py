"""jobs/evaluate.py in this process, without Ray, and tables for it."""

import base64
import dataclasses
import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from painter_core.model_files.directory import write_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.runs.flags import OUTPUTS_SCHEMA, PairFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.table_run import TableRun
from painter_core.stages.evaluate.config import EvaluateConfig
from painter_core.stages.evaluate.run import evaluate_tables
from painter_core.text.tokenizer import from_vocab
from tests.support.jobs import SMALL_VQGAN
from tests.support.judges import clip_vocab, picture
from tests.support.local_run import ALONE

PAIRS = PairFlags()
OUTPUTS = PairFlags(input_schema=OUTPUTS_SCHEMA, second_sequence="gen_imgbase64")
OF_TABLE = {field.name for field in dataclasses.fields(TableFlags)}


def judge(tables: object, outputs: Path, *, input: PairFlags = OUTPUTS, **flags: object) -> dict:
    """Runs the job, and returns score.json, {} if there is none; SystemExit unless it is done."""
    of_table = {name: flags.pop(name) for name in OF_TABLE & set(flags)}
    table = TableFlags(tables=str(tables), outputs=str(outputs), **of_table)  # type: ignore[arg-type]
    config = EvaluateConfig(table=table, input=input, **flags)  # type: ignore[arg-type]
    with Run(config.paths()) as run:
        evaluate_tables(config, run, ALONE, TableRun.execute_here)
    file = outputs / "score.json"
    return json.loads(file.read_text()) if file.exists() else {}


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    """A picture as a file's bytes."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def cell(pixels: np.ndarray, form: str = "PNG") -> str:
    """A picture as a table's cell."""
    return base64.b64encode(encoded(pixels, form)).decode()


def write_pictures(path: Path, numbers: Iterable[int], *, rows_a_group: int = 512) -> Path:
    """A table of tests.support.judges.picture under idx, text and gen_imgbase64, TSV or Parquet."""
    rows = [{"idx": f"r{i}", "text": caption(i), "gen_imgbase64": cell(picture(i))} for i in numbers]
    if path.suffix == ".tsv":
        path.write_text("".join("\t".join(row.values()) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=rows_a_group)
    return path


def caption(i: int) -> str:
    """One of the words that the tiny CLIP knows, other ones for each i."""
    words = clip_vocab().split()[5:]
    return "".join(words[(i * step + step) % len(words)] for step in (1, 3, 7))


def write_gpt(directory: Path, vqgan: Path) -> Path:
    """A model directory: the VQGAN, a GPT with random weights and the tokenizer of the tiny CLIP."""
    tokenizer = from_vocab(clip_vocab().encode())
    torch.manual_seed(3)
    config = GPTConfig(
        text_vocab_size=tokenizer.vocab_size,
        text_len=8,
        image_len=SMALL_VQGAN.image_len,
        codebook_size=SMALL_VQGAN.codebook_size,
        n_layer=1,
        n_head=2,
        n_embd=32,
    )
    model = GPT(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # so that rows differ
    write_model(directory, vqgan=vqgan, gpt=model, tokenizer=tokenizer, card="# A model for tests\n")
    return directory
