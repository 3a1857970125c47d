"""prompts -> pictures: a pool of painters, then PNG encoding on CPUs (parts.py).

A unit's row gains `pixels`: uint8 (N * max_generated_num, S, S, 3) as bytes, the samples of a row side by
side.
"""

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from painter_core.compute.devices import worker_device
from painter_core.compute.memory import gpt_row_bytes, vqgan_row_bytes
from painter_core.easynlp.output import COLUMNS as EASYNLP_COLUMNS
from painter_core.easynlp.output import model_text
from painter_core.errors import Reject
from painter_core.files.faults import failpoint
from painter_core.flag_checks import check_range
from painter_core.images.decode import ImageFormat
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.expected import check_expected
from painter_core.model_files.open import open_model
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.run_config import RunConfig
from painter_core.stages.parts import OutputTable
from painter_core.tables.columns import Columns, parse_input_schema
from painter_core.tables.rejects import RejectLog
from painter_core.tables.unit_row import pack, unpack
from schemas import outputs, rejects

GPU_ROWS = 256  # of a micro-batch: a step reads all weights once, however many rows it has


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """prompts table (idx, text) + model -> pictures (idx, text, gen_imgbase64)."""

    run: RunConfig
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    checkpoint_dir: str
    """Model directory, as jobs/train.py writes it."""
    vqgan: str | None = None
    """VQGAN that decodes instead of the model's own; of the same codes (train_vqgan.py --decoder-only)."""
    input_schema: str = "idx:str:1,text:str:1"
    """Columns of a TSV, in order: name:type:length."""
    output_schema: str = "idx,text,gen_imgbase64"
    """Columns of the output, in order."""
    append_cols: str = ""
    """Columns of the input that are appended unchanged, with commas between."""
    max_generated_num: int = 1
    """Pictures a prompt; with more than one, a column `sample` counts them."""
    image_format: ImageFormat = "png"
    """png and webp are lossless, jpeg has quality 90."""
    easynlp_format: bool = False
    """Write EasyNLP's lines to --outputs X.tsv: one a prompt, its pictures as a Python list in one cell, and
    the text as the model saw it."""
    sequence_length: int | None = None
    """Checked against the model's text and picture length together, if given."""
    expect: str = ""
    """Sizes that the model must have, `image_size=256,text_len=32,...`; changes nothing."""

    def __post_init__(self) -> None:
        check_range("--max-generated-num", self.max_generated_num, 1, 4096)
        check_range("--sequence-length", self.sequence_length, 2, 65536 + 4096)
        if self.easynlp_format and not (self.run.outputs.endswith(".tsv") and self.image_format == "png"):
            raise ValueError(
                f"--easynlp-format: got --outputs {self.run.outputs} and --image-format {self.image_format}, "
                "expected X.tsv and png, as EasyNLP writes them"
            )
        known = (*EASYNLP_COLUMNS, *(() if self.easynlp_format else (outputs.SAMPLE_COLUMN,)))
        names = self.output_schema.split(",")
        if unknown := [n for n in names if n not in known]:
            raise ValueError(f"--output-schema: unknown columns {unknown}; known are {', '.join(known)}")
        if twice := {n for n in self.output_columns if self.output_columns.count(n) > 1}:
            raise ValueError(f"--output-schema and --append-cols: {sorted(twice)} stands twice")

    @property
    def extra(self) -> tuple[str, ...]:
        """Columns carried through."""
        return tuple(n.strip() for n in self.append_cols.split(",") if n.strip())

    @property
    def output_columns(self) -> tuple[str, ...]:
        """Names of the output's columns, in order."""
        names = [n.strip() for n in self.output_schema.split(",")]
        several = self.max_generated_num > 1 and not self.easynlp_format
        if several and outputs.SAMPLE_COLUMN not in names:
            names.append(outputs.SAMPLE_COLUMN)
        return (*names, *self.extra)

    def output_table(self) -> OutputTable:
        """What makes a part."""
        return OutputTable(
            columns=self.output_columns,
            max_generated_num=self.max_generated_num,
            image_format=self.image_format,
            easynlp_format=self.easynlp_format,
        )

    def columns(self) -> Columns:
        """What is read."""
        names = parse_input_schema(self.input_schema)
        return Columns(
            schema=names,
            text=self.run.first_sequence,
            extra=self.extra,
            skip_first_line=self.run.skip_first_line,
        )


def open_decoder(config: GenerateConfig, model: ModelDirectory) -> ModelDirectory:
    """The directory whose VQGAN decodes; ValueError if its codes are others than the model's."""
    if config.vqgan is None:
        return model
    other = open_model(config.vqgan)
    if (other.vqgan, other.codes_sha256()) != (model.vqgan, model.codes_sha256()):
        raise ValueError(
            f"--vqgan {config.vqgan}: makes other codes than the VQGAN of {config.checkpoint_dir}; only one "
            "that was trained from it with --decoder-only can take its place"
        )
    return other


def identity(config: GenerateConfig, model: ModelDirectory) -> dict[str, Any]:
    """What makes the pictures; ValueError if the model does not fit the flags."""
    if model.gpt is None or model.vqgan is None:
        raise ValueError(
            f"--checkpoint-dir {config.checkpoint_dir}: needs a GPT and a VQGAN (jobs/train.py writes both)"
        )
    if config.sequence_length not in (None, model.gpt.block_size):
        raise ValueError(
            f"--sequence-length {config.sequence_length}: the model has {model.gpt.block_size} positions"
        )
    check_expected(config.expect, vqgan=model.vqgan, gpt=model.gpt)
    model.check_weights()
    return {
        "vqgan_sha256": open_decoder(config, model).vqgan_sha256(),
        "gpt_sha256": model.gpt_sha256(),
        "tokenizer_sha256": model.load_tokenizer().sha256,
        "seed": config.run.random_seed,
        "sampling": dataclasses.asdict(config.sampling),
        "max_generated_num": config.max_generated_num,
        "image_format": config.image_format,
        **({"easynlp_format": True} if config.easynlp_format else {}),
    }


def row_bytes(config: GenerateConfig, model: ModelDirectory) -> int:
    """About how many bytes are written for a row: as PNG, a picture has about a byte a pixel."""
    assert model.vqgan is not None
    files = 2 if config.run.outputs.endswith((".tsv", ".parquet")) else 1  # parts, and the file made of them
    return files * config.max_generated_num * model.vqgan.image_size**2


def memory_per_row(config: GenerateConfig, model: ModelDirectory, precision: str) -> int:
    """Bytes that the model needs for a picture: in sampling, then in the decoder."""
    assert model.gpt is not None
    assert model.vqgan is not None
    sampling = config.sampling.rows_per_picture * gpt_row_bytes(model.gpt, precision)
    return sampling + vqgan_row_bytes(model.vqgan, precision)


@dataclass(kw_only=True)
class PaintUnits:
    """Model operator: captions -> pictures."""

    config: GenerateConfig
    precision: str
    micro_batch_size: int
    compiled: bool = False

    def __post_init__(self) -> None:
        self._painter = Painter(
            open_model(self.config.checkpoint_dir),
            device=worker_device(),
            precision=self.precision,
            sampling=self.config.sampling,
            seed=self.config.run.random_seed,
            micro_batch_size=self.micro_batch_size,
            compiled=self.compiled,
            vqgan=open_model(self.config.vqgan) if self.config.vqgan else None,
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        table = unpack(row["table"])
        log = RejectLog(stage="generate")
        kept = self._paintable(table.to_pylist(), log)
        table = table.take(pa.array(kept, pa.int64()))
        samples = range(self.config.max_generated_num)
        requests = [
            Request(idx=line["idx"], text=line["text"], sample=sample)
            for line in table.select(["idx", "text"]).to_pylist()
            for sample in samples
        ]
        pictures = [picture for _, batch in self._painter.paint(requests) for picture in batch]
        failpoint("unit_computed", unit=int(row["unit"]))
        all_rejects = pa.concat_tables([unpack(row["rejects"]), log.table()])
        table = table.drop_columns(["file", "row", "byte_offset"])
        return {
            "unit": row["unit"],
            "rows_in": row["rows_in"],
            "warnings": row["warnings"],
            "table": pack(self._as_seen(table) if self.config.easynlp_format else table),
            "rejects": pack(all_rejects.sort_by("row").cast(rejects.SCHEMA)),
            "pixels": np.stack(pictures).tobytes() if pictures else b"",
            "image_size": self._painter.vqgan.config.image_size,
            "model_s": time.monotonic() - began,
        }

    def _as_seen(self, table: pa.Table) -> pa.Table:
        """Captions as EasyNLP writes them."""
        tokenizer, length = self._painter.tokenizer, self._painter.gpt.config.text_len
        texts = [model_text(tokenizer, text, length) for text in table.column("text").to_pylist()]
        return table.set_column(table.column_names.index("text"), "text", pa.array(texts, pa.string()))

    def _paintable(self, lines: list[dict[str, Any]], log: RejectLog) -> list[int]:
        """Positions of the rows that leave tokens; the others are rejected."""
        if not lines:
            return []
        found = self._painter.text_ids([line["text"] for line in lines])
        length = self._painter.gpt.config.text_len
        kept = []
        for i, line in enumerate(lines):
            try:
                self._check(line, int(found.num_tokens[i]), int(found.num_unk[i]), length)
                kept.append(i)
            except Reject as error:
                log.add(line, error)
        return kept

    def _check(self, line: dict[str, Any], num_tokens: int, num_unk: int, length: int) -> None:
        column = self.config.run.first_sequence
        if num_tokens == 0:
            raise Reject("text_empty", "leaves no token", column)
        if num_unk == min(num_tokens, length):
            raise Reject("text_all_unk", f"all of {num_unk} tokens are unknown to the model", column)
        if self.config.run.outputs.endswith(".tsv"):
            written = () if self.config.easynlp_format else ("text",)  # else without white space
            for name in (*written, *self.config.extra):
                if any(c in (line[name] or "") for c in "\t\r\n"):
                    detail = "a tab or a line end inside; use a .parquet output"
                    raise Reject("text_control", detail, column if name == "text" else name)
