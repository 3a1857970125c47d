"""The model operator: captions of a unit -> pictures.

A unit's payload is `pixels`, uint8 (N * pictures_a_row, S, S, 3) as bytes, and beside it what is told of each
picture under the columns' names (schemas/outputs.py); a row's samples follow each other.
"""

import dataclasses
import functools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from painter_core.compute.devices import worker_device
from painter_core.easynlp.output import model_text
from painter_core.errors import Reject
from painter_core.files.faults import failpoint
from painter_core.model_files.open import open_model
from painter_core.painting.chosen import paint_chosen
from painter_core.painting.graphs import Graphs
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from painter_core.painting.starting import start_codes
from painter_core.painting.sweep import swept_names
from painter_core.stages.generate.clip import ClipJudge
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.enlarge import Enlarger
from painter_core.stages.generate.row_checks import check_row
from painter_core.stages.pins import check_pins, clip_pins, model_pins
from painter_core.tables.columns import PLACE
from painter_core.tables.rejects import RejectLog
from painter_core.tables.row_checks import check_seen
from painter_core.tables.unit_row import UnitRow
from schemas.outputs import CODES_COLUMN, NUMBERS, RANK_COLUMN, SAMPLE_COLUMN, SCORE_COLUMN


@dataclass(kw_only=True)
class PaintUnits:
    """Model operator: captions -> pictures."""

    config: GenerateConfig
    identity: dict[str, Any]
    """Names the model by its content."""
    precision: str
    micro_batch_size: int
    compiled: bool = False
    gpu: bool = False
    """Whether Ray gives the worker a GPU."""
    graphs: Graphs = "off"

    def __post_init__(self) -> None:
        config = self.config
        model = open_model(config.checkpoint_dir)
        decoder = open_model(config.vqgan) if config.vqgan else model
        self._painter = Painter(
            model,
            device=worker_device(gpu=self.gpu),
            precision=self.precision,
            sampling=self.config.sampling,
            seed=self.config.random_seed,
            micro_batch_size=self.micro_batch_size,
            compiled=self.compiled,
            graphs=self.graphs,
            vqgan=decoder,
        )
        check_pins(str(model.path), model_pins(model, text_head=config.choice.needs_captioner), self.identity)
        check_pins(str(decoder.path), {"vqgan_sha256": decoder.vqgan_sha256()}, self.identity)
        self._enlarge = Enlarger(config.upscaling, self.identity, self._painter.device)
        self._judge = None
        if config.choice.clip:
            self._judge = ClipJudge(config.choice.clip, self._painter.device)
            check_pins(config.choice.clip, clip_pins(config.choice.clip), self.identity)

    def __call__(self, row: UnitRow) -> UnitRow:
        began = time.monotonic()
        log = RejectLog(stage="generate", keep_cell=self.config.table.keep_rejected)
        codes = ("image",) if self.config.start.init_codes is not None else ()
        columns = [name for name in row.table.column_names if name not in (*PLACE, *codes)]
        kept, notes = self._paintable(row.table.to_pylist(), log)
        starts = self._starts(row, kept)
        painted = dataclasses.replace(row.keep(kept, log, columns), warnings=row.warnings + notes)
        lines = painted.table.select(["idx", "text"]).to_pylist()
        style = self.config.style
        captions = [
            Request(idx=c["idx"], text=style.of(c["text"]), start=s)
            for c, s in zip(lines, starts, strict=True)
        ]
        made = self._paint(captions, [line["text"] for line in lines])
        made["pixels"] = self._enlarge(made["pixels"])
        failpoint("unit_computed", unit=row.unit)
        if self.config.easynlp_format:
            painted = dataclasses.replace(painted, table=self._as_seen(painted.table))
        return painted.carrying(
            **{name: value.tobytes() for name, value in made.items()},
            image_size=made["pixels"].shape[1],
            image_len=self._painter.gpt.config.image_len,
            model_s=time.monotonic() - began,
            # not a word of it on a CPU, where records are what they were
            **({"computed": json.dumps(self._painter.graphs.to_json())} if self.graphs != "off" else {}),
        )

    def _starts(self, row: UnitRow, kept: list[int]) -> Sequence[np.ndarray | None]:
        """The codes that each row's pictures begin with, if there is something to paint on."""
        vqgan = self._painter.vqgan.config
        rows = self.config.start.num_rows(vqgan)
        if not rows:
            return [None] * len(kept)
        if self.config.start.init_codes is not None:
            cells = row.table.column("image").to_pylist()
            return [np.frombuffer(cells[i], "<u2")[: rows * vqgan.grid_size] for i in kept]
        shape = (-1, vqgan.image_size, vqgan.image_size, 3)
        pictures = np.frombuffer(row.payload["pixels"], np.uint8).reshape(shape)
        return list(start_codes(self._painter, pictures[kept], rows))

    def _paint(self, captions: list[Request], texts: list[str]) -> dict[str, np.ndarray]:
        """What is told of every picture that is kept, a caption's after each other, setting by setting.

        Args:
            texts: the captions as they were given, without a style's words.
        """
        made = [self._paint_at(setting, captions, texts) for setting in self.config.settings]
        if len(made) == 1 or not captions:
            return made[0]
        stacked = {
            name: np.stack([m[name].reshape(len(captions), -1, *m[name].shape[1:]) for m in made], axis=1)
            for name in made[0]
        }  # (captions, settings, kept, ...)
        return {name: value.reshape(-1, *value.shape[3:]) for name, value in stacked.items()}

    def _paint_at(
        self, setting: SamplingConfig, captions: list[Request], texts: list[str]
    ) -> dict[str, np.ndarray]:
        """What is told of the pictures of one setting."""
        config = self.config
        judge, number = None, config.max_generated_num
        if self._judge:
            judge = functools.partial(self._judge, [text for text in texts for _ in range(number)])
        found = paint_chosen(
            self._painter.variant(sampling=setting),
            captions,
            choice=config.choice,
            judge=judge,
            max_generated_num=number,
            decode=config.decodes,
            # EasyNLP's lines have no place for ranks: there the best one comes first
            best_first=config.easynlp_format,
        )
        told = {SAMPLE_COLUMN: found.kept.samples, RANK_COLUMN: found.kept.ranks}
        told |= {SCORE_COLUMN.format(name): values for name, values in found.scores.items()}
        for name in swept_names(config.sweep) if config.sweep else ():
            kind = NUMBERS[name].to_pandas_dtype()
            told[name] = np.full(len(found.kept.samples), getattr(setting, name), kind)
        codes = {CODES_COLUMN: found.codes} if config.codes_column else {}
        return {"pixels": found.pixels, **told, **codes}

    def _as_seen(self, table: pa.Table) -> pa.Table:
        """Captions as EasyNLP writes them."""
        tokenizer, length = self._painter.tokenizer, self._painter.gpt.config.text_len
        texts = [model_text(tokenizer, text, length) for text in table.column("text").to_pylist()]
        return table.set_column(table.column_names.index("text"), "text", pa.array(texts, pa.string()))

    def _paintable(self, lines: list[dict[str, Any]], log: RejectLog) -> tuple[list[int], Counter[str]]:
        """Positions of the rows that leave tokens, and what is noticed of them; the others are rejected."""
        if not lines:
            return [], Counter()
        found = self._painter.text_ids([line["text"] for line in lines])
        length = self._painter.gpt.config.text_len
        kept = []
        for i, line in enumerate(lines):
            try:
                check_seen(
                    int(found.num_tokens[i]),
                    int(found.num_unk[i]),
                    length,
                    self.config.input.first_sequence,
                )
                check_row(self.config, line, self._painter.vqgan.config)
                kept.append(i)
            except Reject as error:
                log.add(line, error, cell=line.get("image") if self.config.start.init_codes else None)
        noticed = Counter(text_cut=int((found.num_tokens[kept] > length).sum()))
        noticed["text_unk"] = int((found.num_unk[kept] > 0).sum())
        if self.config.style:
            whole = self._painter.text_ids([self.config.style.of(lines[i]["text"]) for i in kept])
            noticed["prompt_cut"] = int((whole.num_tokens > length).sum()) - noticed["text_cut"]
        return kept, noticed
