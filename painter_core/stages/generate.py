"""prompts -> pictures: a pool of painters, then PNG encoding on CPUs (parts.py).

A unit's payload is `pixels`: uint8 (N * max_generated_num, S, S, 3) as bytes; a row's samples follow each
other.
"""

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from painter_core.compute.devices import model_settings, worker_device
from painter_core.compute.memory import gpt_row_bytes, vqgan_row_bytes
from painter_core.easynlp.output import COLUMNS as EASYNLP_COLUMNS
from painter_core.easynlp.output import model_text
from painter_core.errors import Reject
from painter_core.files.faults import failpoint
from painter_core.files.storage import absolute
from painter_core.flag_checks import check_range, check_seed
from painter_core.images.decode import ImageFormat
from painter_core.model_files.directory import ModelDirectory, weights_bytes
from painter_core.model_files.expected import check_expected
from painter_core.model_files.open import name_for_workers, open_model
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.cluster import start_ray
from painter_core.runs.flags import ModelFlags, PromptFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.parts import OutputTable
from painter_core.stages.pins import check_pins, model_pins
from painter_core.tables.columns import PLACE
from painter_core.tables.rejects import RejectLog
from painter_core.tables.unit_row import UnitRow
from schemas import outputs

GPU_ROWS = 256  # of a micro-batch: a step reads all weights once, however many rows it has


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """prompts table (idx, text) + model -> pictures (idx, text, gen_imgbase64)."""

    table: TableFlags
    input: PromptFlags = field(default_factory=PromptFlags)
    model: ModelFlags = field(default_factory=ModelFlags)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    checkpoint_dir: str
    """Model directory, as jobs/train.py writes it."""
    vqgan: str | None = None
    """VQGAN that decodes instead of the model's own; of the same codes (train_vqgan.py --decoder-only)."""
    output_schema: str = "idx,text,gen_imgbase64"
    """Columns of the output, in order."""
    append_cols: str = ""
    """Columns of the input that are appended unchanged, with commas between."""
    max_generated_num: int = 1
    """Pictures a prompt; with more than one, a column `sample` counts them."""
    random_seed: int = 42
    """Seed of the draws."""
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
        check_seed(self.random_seed)
        if self.easynlp_format and not (self.table.outputs.endswith(".tsv") and self.image_format == "png"):
            raise ValueError(
                f"--easynlp-format: got --outputs {self.table.outputs} and --image-format "
                f"{self.image_format}, expected X.tsv and png, as EasyNLP writes them"
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

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {
            "--tables": self.table.tables,
            "--outputs": self.table.outputs,
            "--checkpoint-dir": self.checkpoint_dir,
        }


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
        "seed": config.random_seed,
        "sampling": dataclasses.asdict(config.sampling),
        "max_generated_num": config.max_generated_num,
        "image_format": config.image_format,
        **({"easynlp_format": True} if config.easynlp_format else {}),
    }


def row_bytes(config: GenerateConfig, model: ModelDirectory) -> int:
    """About how many bytes are written for a row: as PNG, a picture has about a byte a pixel."""
    assert model.vqgan is not None
    # the parts, and the single file made of them
    files = 2 if config.table.outputs.endswith((".tsv", ".parquet")) else 1
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
    identity: dict[str, Any]
    """Names the model by its content."""
    precision: str
    micro_batch_size: int
    compiled: bool = False

    def __post_init__(self) -> None:
        config = self.config
        model = open_model(config.checkpoint_dir)
        decoder = open_model(config.vqgan) if config.vqgan else model
        self._painter = Painter(
            model,
            device=worker_device(),
            precision=self.precision,
            sampling=self.config.sampling,
            seed=self.config.random_seed,
            micro_batch_size=self.micro_batch_size,
            compiled=self.compiled,
            vqgan=decoder,
        )
        check_pins(str(model.path), model_pins(model), self.identity)
        check_pins(str(decoder.path), {"vqgan_sha256": decoder.vqgan_sha256()}, self.identity)

    def __call__(self, row: UnitRow) -> UnitRow:
        began = time.monotonic()
        log = RejectLog(stage="generate")
        columns = [name for name in row.table.column_names if name not in PLACE]
        painted = row.keep(self._paintable(row.table.to_pylist(), log), log, columns)
        requests = [
            Request(idx=line["idx"], text=line["text"], sample=sample)
            for line in painted.table.select(["idx", "text"]).to_pylist()
            for sample in range(self.config.max_generated_num)
        ]
        pictures = [picture for _, batch in self._painter.paint(requests) for picture in batch]
        failpoint("unit_computed", unit=row.unit)
        if self.config.easynlp_format:
            painted = dataclasses.replace(painted, table=self._as_seen(painted.table))
        return painted.carrying(
            pixels=np.stack(pictures).tobytes() if pictures else b"",
            image_size=self._painter.vqgan.config.image_size,
            model_s=time.monotonic() - began,
        )

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
        column = self.config.input.first_sequence
        if num_tokens == 0:
            raise Reject("text_empty", "leaves no token", column)
        if num_unk == min(num_tokens, length):
            raise Reject("text_all_unk", f"all of {num_unk} tokens are unknown to the model", column)
        if self.config.table.outputs.endswith(".tsv"):
            written = () if self.config.easynlp_format else ("text",)  # else without white space
            for name in (*written, *self.config.extra):
                if any(c in (line[name] or "") for c in "\t\r\n"):
                    detail = "a tab or a line end inside; use a .parquet output"
                    raise Reject("text_control", detail, column if name == "text" else name)


def generate(config: GenerateConfig, run: Run) -> None:
    """prompts -> pictures."""
    cluster = start_ray(config.model.gpu_wait())
    model = open_model(config.checkpoint_dir)
    settings = model_settings(
        config.model.precision, config.model.compile, gpu=config.model.uses_gpu(cluster)
    )
    vqgan = name_for_workers(config.vqgan) if config.vqgan else None
    # best/ of a run is resolved once: what a training publishes meanwhile is another model
    name = model.path if model.path.parent == Path(absolute(config.checkpoint_dir)) else config.checkpoint_dir
    config = dataclasses.replace(config, checkpoint_dir=name_for_workers(str(name)), vqgan=vqgan)
    made_by = identity(config, model)
    assert model.gpt is not None and model.vqgan is not None  # noqa: PT018  identity() has looked
    job = TableJob(
        stage="generate",
        table="outputs",
        flags=config.table,
        columns=config.input.columns(config.extra),
        identity=made_by,
        model=config.model,
        settings=settings | {"output_columns": list(config.output_columns)},
        row_bytes=row_bytes(config, model),
        memory_per_row=memory_per_row(config, model, settings["precision"]),
        weights_bytes=weights_bytes(GPT, model.gpt) + weights_bytes(VQGAN, model.vqgan),
        pictures_a_row=config.max_generated_num,
        picture_bytes=3 * model.vqgan.image_size**2,
        gpu_rows=GPU_ROWS,
        reads=(config.checkpoint_dir, vqgan or ""),
    )
    table = TableRun(job, run, cluster)
    painter = {
        "config": config,
        "identity": job.identity,
        "precision": settings["precision"],
        "compiled": settings["compile"],
        "micro_batch_size": table.micro_batch_size,
    }
    table.execute(
        Actors(operator=PaintUnits, arguments=painter), parts=Parts(build=config.output_table(), cpus=1.0)
    )
