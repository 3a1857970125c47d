"""--keep-best: of a table's pictures of each idx the best by one score, as a smaller table beside the scores.

It is OUTPUTS/best, of several tables OUTPUTS/NAME/best, and a table of ours like any other: made by units
from the parts of the input, resumed, without a manifest until it is whole. The choice is made before, from
the scores of all rows: the rows of an idx may lie in two units.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from painter_core.files.storage import join, redact, remove
from painter_core.runs.cluster import Cluster
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.codes_table import keep_vqgan, open_vqgan
from painter_core.stages.evaluate.config import EvaluateConfig
from painter_core.stages.evaluate.examples import Judged
from painter_core.stages.evaluate.places import part_of, places, rows_before
from painter_core.stages.evaluate.sources import Source
from painter_core.stages.sweeps import painted_by, pictures_a_setting
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.parquet import parquet_footer, plain_kind
from painter_core.tables.records import read_manifest
from painter_core.tables.run_directory import RunDirectory, table_url
from painter_core.tables.unit_row import UnitRow, pack_schema, unpack_schema
from schemas import outputs, scores

log = logging.getLogger(__name__)

BEST = "best"
NUMBERS = {"clip": ("clip_score", 1), "caption": (scores.CAPTION_NATS, -1)}  # the higher, the better; or not
OF_CHOICE = ("sweep", "max_generated_num", "keep_best", "rank_by")  # entries of what made the pictures


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The rows that are kept, k of them."""

    rows: np.ndarray
    """Their numbers in the whole table, from 0, int64 (k,), ascending."""
    ranks: np.ndarray
    """How good each is among those of its idx, int32 (k,); 0 is the best."""


def choose(judged: Sequence[Judged], before: dict[str, int], metric: str, keep: int) -> Kept:
    """The best rows of each idx and caption; of equal scores the earlier row is the better one.

    Args:
        judged: all that is known of the table; one entry a setting, if it was painted at several.
        before: of rows_before().
        metric: of NUMBERS.
        keep: of each idx.

    Raises:
        ValueError: a cell holds several pictures.
    """
    name, sign = NUMBERS[metric]
    at, values = [], []
    keys: list[tuple[str, str]] = []
    for table in judged:
        if np.any(table.found.number("sample")):
            raise ValueError("--keep-best: a cell holds several pictures; it chooses among rows")
        at.append(places(table.found, table.reader.files, table.units, before))
        values.append(sign * table.reduced.numbers[name])
        keys += zip(table.found.strings("idx"), table.found.strings("text"), strict=True)
    rows, worth = np.concatenate(at), np.concatenate(values)
    ranks, seen = np.empty(len(rows), np.int32), Counter[tuple[str, str]]()
    for i in np.lexsort((rows, -worth)):
        ranks[i] = seen[keys[i]]
        seen[keys[i]] += 1
    order = np.argsort(rows)
    order = order[ranks[order] < keep]
    return Kept(rows=rows[order], ranks=ranks[order])


@dataclass(frozen=True, kw_only=True)
class BestPart:
    """The part of a unit: those of its rows that are kept, with all their columns and their rank."""

    schema: bytes
    """Of the output, packed."""
    idx: str
    before: dict[str, int]
    """Of rows_before()."""
    kept: Kept

    def __call__(self, row: UnitRow) -> pa.Table:
        files = [self.before[part_of(name)] for name in row.table.column("file").to_pylist()]
        at = np.array(files, np.int64) + row.table.column("row").to_numpy() - 1
        where = np.searchsorted(self.kept.rows[:-1], at)  # the last kept row, for all rows behind it
        is_kept = self.kept.rows[where] == at
        table = row.table.filter(pa.array(is_kept, pa.bool_()))
        made = {outputs.RANK_COLUMN: pa.array(self.kept.ranks[where[is_kept]], pa.int32())}
        schema, columns = unpack_schema(self.schema), []
        for field in schema:
            name = "idx" if field.name == self.idx else field.name
            found = made[name] if name in made else table.column(name).combine_chunks()
            columns.append(found.cast(field.type))
        return pa.Table.from_arrays(columns, schema=schema)


def best_job(config: EvaluateConfig, source: Source) -> TableJob:
    """The job that makes the table of the best.

    Raises:
        ValueError: the table is none of ours, or is not one of several rows an idx.
    """
    assert config.keep_best is not None
    flags = dataclasses.replace(
        source.table, tables=table_url(source.table.tables), outputs=join(source.table.outputs, BEST)
    )
    shown = f"--keep-best: --tables {redact(source.table.tables)}"
    if RunDirectory(flags.tables).read_json("_run", "plan.json") is None:
        raise ValueError(f"{shown}: no table of jobs/generate.py or jobs/upscale.py, whose parts it reads")
    if source.columns.idx is None:
        raise ValueError(f"{shown}: read by row numbers, so that each picture is the only one of its idx")
    manifest = read_manifest(flags.tables)
    painted = painted_by(manifest)
    number = len(painted.get("sweep", [0])) * pictures_a_setting(painted)
    if painted.get("easynlp_format") and number > 1:
        raise ValueError(f"{shown}: --easynlp-format, several pictures a cell; it chooses among rows")
    schema, size = _schema(flags.tables), sum(part["bytes"] for part in manifest["parts"])
    rest = tuple(name for name in schema.names if name != source.columns.idx)
    kinds = {name: schema.field(name).type for name in rest}
    metric = _metric(config)
    judge = source.judging.clip if metric == "clip" else source.judging.likelihood
    assert judge is not None
    chosen: dict[str, Any] = {"keep_best": config.keep_best, "rank_by": metric}
    about: dict[str, Any] = {n: manifest[n] for n in ("image_len", "variants") if n in manifest}
    made_by = {"vqgan_sha256": manifest["identity"]["vqgan_sha256"]} if about else {}
    if manifest["table"] == "outputs":
        about["painted"] = {k: v for k, v in painted.items() if k not in OF_CHOICE} | chosen
    return TableJob(
        stage="evaluate",
        table=manifest["table"],
        flags=flags,
        columns=Columns(schema=(), idx=source.columns.idx, text=None, extra=rest, kinds=kinds),
        identity={**chosen, **made_by, "judge": judge.pins},
        settings={"output_columns": _with_rank(schema).names},
        row_bytes=int(size / max(manifest["rows_in"], 1) * min(config.keep_best / number, 1)),
        manifest=about,
    )


def check_best(job: TableJob, run: Run, cluster: Cluster) -> None:
    """Raises what would be raised when the table is made: ValueError, Refused. Nothing is written."""
    flags = dataclasses.replace(job.flags, dry_run=True)
    TableRun(dataclasses.replace(job, flags=flags), run, cluster)


def write_best(
    job: TableJob, judged: Sequence[Judged], run: Run, cluster: Cluster, execute: Callable[..., None]
) -> None:
    """Makes or completes the table.

    Args:
        judged: all that is known of the input.
        execute: TableRun.execute or TableRun.execute_here.
    """
    source, schema = job.flags.tables, _schema(job.flags.tables)
    if outputs.RANK_COLUMN in schema.names:
        log.warning("%s: its column rank becomes the rank by --keep-best", redact(source))
    before = rows_before(source)
    kept = choose(judged, before, job.identity["rank_by"], job.identity["keep_best"])
    table = TableRun(job, run, cluster)
    if table.writes and "image_len" in job.manifest:
        keep_vqgan(open_vqgan(source), table.directory, job.identity)
    assert job.columns.idx is not None
    build = BestPart(schema=pack_schema(_with_rank(schema)), idx=job.columns.idx, before=before, kept=kept)
    execute(table, parts=Parts(build=build))
    run.ended()
    log.info("the best %d pictures of each idx, %d in all", job.identity["keep_best"], len(kept.rows))


def remove_best(place: str) -> None:
    """Removes the best of rows that stood in this scores table before."""
    best = RunDirectory(join(place, BEST))
    if "keep_best" in (best.read_json("_run", "plan.json") or {}).get("identity", {}):
        log.info("removing %s, the best by scores that are replaced", redact(best.url))
        remove(*best.path())


def _metric(config: EvaluateConfig) -> str:
    return next(metric for metric in config.wanted if metric in NUMBERS)


def _schema(table: str) -> pa.Schema:
    """The columns of a table of ours."""
    found = parquet_footer(find_files(table)[0])[1]
    return pa.schema([pa.field(field.name, plain_kind(field.type)) for field in found])


def _with_rank(schema: pa.Schema) -> pa.Schema:
    rank = pa.field(outputs.RANK_COLUMN, pa.int32())
    if rank.name in schema.names:
        return schema.set(schema.names.index(rank.name), rank)
    return schema.append(rank)
