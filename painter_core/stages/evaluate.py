"""pictures -> scores: attributes that the judge reads off each picture, beside those that its caption asks
for."""

import dataclasses
import logging
from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa

from painter_core.easynlp.output import cells_of_output
from painter_core.errors import Reject
from painter_core.files.storage import write_bytes
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import decode_image
from painter_core.images.isolate import decoder
from painter_core.runs.cluster import start_ray
from painter_core.runs.flags import OUTPUTS_SCHEMA, PairFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.sample.captions import VALUES, Attributes, parse_caption
from painter_core.sample.judge import Judge, Score, score
from painter_core.tables.columns import Columns
from painter_core.tables.manifest import iter_parts
from painter_core.tables.rejects import RejectLog
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.unit_row import UnitRow, pack, unpack
from schemas import scores

log = logging.getLogger(__name__)

SCORE_BYTES = 300  # of a row, for the estimate of what will be written
JUDGED_PX = 64  # side to which pictures are brought for the judge


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """output table (idx, text, gen_imgbase64) -> scores table, score.json and score.md."""

    table: TableFlags
    input: PairFlags = field(
        default_factory=lambda: PairFlags(input_schema=OUTPUTS_SCHEMA, second_sequence="gen_imgbase64")
    )
    attributes: bool = False
    """Score attributes of the bundled sample's goods: kind, colour, pattern, background, size."""

    def __post_init__(self) -> None:
        if not self.attributes:
            raise ValueError("give what is to be scored: --attributes")

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {"--tables": self.table.tables, "--outputs": self.table.outputs}


@dataclass(frozen=True, kw_only=True)
class JudgePictures:
    """CPU operator: reads attributes off a unit's pictures; a cell of EasyNLP's may hold several."""

    config: EvaluateConfig
    in_child: bool | None = None
    """Whether to decode in another process; by default as in images.isolate.decoder."""

    def __call__(self, row: UnitRow) -> UnitRow:
        log = RejectLog(stage="evaluate", keep_cell=self.config.table.keep_rejected)
        kept: list[int] = []
        wanted, pictures, shown = [], [], []  # of every picture; shown: its row
        with decoder(decode_output, in_child=self.in_child) as decode:
            for i, line in enumerate(row.table.to_pylist()):
                try:
                    wanted_of_line = self._wanted(line["text"])
                    found = decode(line["image"], Counter(), row=line["row"])
                    pictures.append(found)
                    wanted += [wanted_of_line] * len(found)
                    shown += [i] * len(found)
                    kept.append(i)
                except Reject as error:
                    error.column = error.column or self.config.input.second_sequence
                    log.add(line, error, cell=line["image"])
        read = Judge(image_size=JUDGED_PX).read(np.concatenate(pictures)) if pictures else []
        columns = {f"wanted_{a}": [getattr(w, a) for w in wanted] for a in VALUES}
        columns |= {f"read_{a}": [getattr(r, a) for r in read] for a in VALUES}
        judged = row.table.select(["idx", "text"]).take(pa.array(shown, pa.int64()))
        for name, values in columns.items():
            judged = judged.append_column(name, pa.array(values, pa.string()))
        return row.keep(kept, log, ["idx", "text"]).carrying(scores=pack(judged))

    def _wanted(self, text: str) -> Attributes:
        try:
            return parse_caption(text)
        except ValueError as error:
            raise Reject("text_unscored", str(error), self.config.input.first_sequence) from None


def decode_output(cell: str | bytes | None, notes: Counter[str]) -> np.ndarray:
    """A cell of an output table -> uint8 (k, 64, 64, 3), its pictures."""
    images = [image_of_cell(one, notes) for one in cells_of_output(cell)]
    return np.stack([decode_image(image, JUDGED_PX, "antialias") for image in images])


def scores_table(row: UnitRow) -> pa.Table:
    """The part of a unit: a row a picture."""
    return unpack(row.payload["scores"]).cast(scores.schema(tuple(VALUES)))


def write_score(directory: RunDirectory) -> Score:
    """score.json and score.md of a finished scores table."""
    read, wanted = [], []
    for table in iter_parts(directory.outputs):
        for row in table.to_pylist():
            read.append(Attributes(**{a: row[f"read_{a}"] for a in VALUES}))
            wanted.append(Attributes(**{a: row[f"wanted_{a}"] for a in VALUES}))
    found = score(read, wanted)
    directory.write_json(asdict(found), "score.json")
    write_bytes(*directory.path("score.md"), found.to_markdown().encode())
    return found


def evaluate_columns(config: EvaluateConfig) -> Columns:
    """What is read; of a TSV that generate wrote, its run directory says the columns."""
    flags = config.input
    if flags.input_schema == OUTPUTS_SCHEMA and config.table.tables.endswith(".tsv"):
        plan = RunDirectory(config.table.tables).read_json("_run", "plan.json") or {}
        if names := plan.get("settings", {}).get("output_columns"):
            flags = dataclasses.replace(flags, input_schema=",".join(names))
    return flags.columns()


def evaluate(config: EvaluateConfig, run: Run) -> None:
    """pictures -> scores, and the score of the table."""
    cluster = start_ray()
    job = TableJob(
        stage="evaluate",
        table="scores",
        flags=config.table,
        columns=evaluate_columns(config),
        identity={"judge": "attributes", "format": 1},
        row_bytes=SCORE_BYTES,
    )
    table = TableRun(job, run, cluster)
    table.execute(Tasks(operator=JudgePictures(config=config)), parts=Parts(build=scores_table))
    # also of a table that is complete: a run may have been ended between the last part and its score
    if not config.table.dry_run and table.directory.read_json("score.json") is None:
        log.info("score\n%s", write_score(table.directory).to_markdown())
