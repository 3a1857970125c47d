"""What stands beside the scores tables: score.json, score.md, report.html and scores.parquet."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from painter_core.evaluation.columns import to_markdown
from painter_core.evaluation.frechet import MAX_ROWS
from painter_core.evaluation.report.page import render_report
from painter_core.evaluation.score import Score, TableScore
from painter_core.files.storage import filesystem, join, remove, write_bytes
from painter_core.model_files.inception_file import load_inception
from painter_core.runs.table_run import TableRun
from painter_core.stages.evaluate.config import EvaluateConfig
from painter_core.stages.evaluate.examples import Judged, examples_of
from painter_core.stages.evaluate.extract import extract
from painter_core.stages.evaluate.judging import Judging
from painter_core.stages.evaluate.numbers import plots_of
from painter_core.stages.evaluate.reduce import ReferenceSet, reduce_table
from painter_core.stages.evaluate.reference import open_reference
from painter_core.stages.evaluate.settings import by_setting
from painter_core.stages.evaluate.sources import REFERENCE, REPORT, Source
from painter_core.tables.parquet import parquet_bytes
from painter_core.tables.plan import stored_units
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.units import Unit

log = logging.getLogger(__name__)


def write_report(
    config: EvaluateConfig, sources: list[Source], runs: list[TableRun], root: Path
) -> dict[str, list[Judged]]:
    """Writes the files.

    Args:
        sources: the tables, the reference last if it is one.
        runs: that made their scores tables.
        root: an empty directory for what is extracted from them.

    Returns:
        What is known of each table, by its source's name: one entry, or one a setting of a swept table.
    """
    reference, notes = _reference(config, sources, root)
    judging = sources[0].judging
    classes = None
    if "is" in config.wanted and judging.inception:
        classes = load_inception(Path(judging.inception.file)).fc.weight.numpy()
    judged: dict[str, list[Judged]] = {}
    for i, (source, run) in enumerate(zip(sources, runs, strict=True)):
        if source.name == REFERENCE:
            continue
        whole = extract(source.table.outputs, source.table.tables, _folder(root, str(i)))
        units = _units_of(source.table.outputs)
        judged[source.name] = []
        for name, found in by_setting(source.name, source.table.tables, whole, run.reader, units):
            reduced = reduce_table(name, found, config.wanted, config.blurs, reference, classes)
            judged[source.name].append(
                Judged(found=found, reduced=reduced, judging=source.judging, reader=run.reader, units=units)
            )
    _write_files(config, [table for found in judged.values() for table in found], reference, notes)
    return judged


def _write_files(
    config: EvaluateConfig, judged: list[Judged], reference: ReferenceSet | None, notes: list[str]
) -> None:
    tables = tuple(table.reduced.score for table in judged)
    score = Score(
        tables=tables,
        reference=reference.shown if reference else None,
        made_with=_made_with(judged[0].judging),
        notes=(*notes, *notes_of(tables, reference)),
    )
    fs, path = filesystem(config.table.outputs)
    title = f"Score of {tables[0].name}" if len(tables) == 1 else f"Scores of {len(tables)} tables"
    examples = [group for table in judged for group in examples_of(table)]
    page = render_report(title, score, plots_of([table.reduced for table in judged]), examples)
    write_bytes(fs, join(path, "scores.parquet"), parquet_bytes(_pictures(judged)))
    write_bytes(fs, join(path, "report.html"), page.encode())
    write_bytes(fs, join(path, "score.md"), to_markdown(score).encode())
    write_bytes(fs, join(path, "score.json"), score.to_json().encode())
    log.info("score -> %s\n%s", join(config.table.outputs, "report.html"), to_markdown(score))


def remove_report(outputs: str) -> None:
    """Removes what write_report wrote before."""
    fs, path = filesystem(outputs)
    for name in REPORT:
        remove(fs, join(path, name))


def _units_of(outputs: str) -> list[Unit]:
    """The units that a table was made of, also if they would be cut otherwise now."""
    return stored_units(RunDirectory(outputs).read_json("_run", "plan.json"))


def _folder(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir()
    return folder


def _reference(
    config: EvaluateConfig, sources: list[Source], root: Path
) -> tuple[ReferenceSet | None, list[str]]:
    judge = sources[0].judging.inception
    if config.reference is None or judge is None:
        return None, []
    made = [source.table.outputs for source in sources if source.name == REFERENCE]
    features = made[0] if made else None if config.reference.endswith(".npz") else config.reference
    reference, notes = open_reference(config.reference, features, judge, _folder(root, REFERENCE))
    return reference, notes


def notes_of(tables: tuple[TableScore, ...], reference: ReferenceSet | None) -> list[str]:
    """What a reader must know before comparing."""
    notes = []
    if any(table.fid for table in tables) and reference is not None:
        counts = [table.rows.pictures for table in tables]
        if min([*counts, reference.shown.n or MAX_ROWS]) < MAX_ROWS:
            notes.append(
                f"fewer than {MAX_ROWS:,} pictures: FID is biased upwards, and the more so the fewer there "
                "are; compare it at equal numbers only, and read KID beside it"
            )
        if len(set(counts)) > 1:
            notes.append("the tables hold different numbers of pictures: their FID are not comparable")
    if any("JPEG" in rows.formats for table in tables if table.fid for rows in [table.rows]):
        notes.append("some pictures were compressed as JPEG, which alone moves FID")
    if any(table.clip for table in tables):
        notes.append(
            "a CLIP cosine is read beside the one with shuffled captions: unrelated pairs score high too"
        )
    return notes


def _made_with(judging: Judging) -> dict[str, str]:
    """Settings and sums of weights, for a person."""
    found: dict[str, str] = {}
    if judging.inception:
        found |= {"resize to 299": judging.inception.resize, "Inception sha256": judging.inception.sha256}
    if judging.inception and judging.inception.blurs != (0,):
        found["blur of FID-k"] = "Gaussian of 2 k + 1 taps, deviation sqrt(((2 k + 1)^2 - 1) / 12), on 8 bits"
    for judge in (judging.clip, judging.likelihood, judging.reconstruction):
        if judge is not None:
            found |= {name.replace("_sha256", " sha256"): value for name, value in judge.pins.items()}
    return found


def _pictures(judged: list[Judged]) -> pa.Table:
    """scores.parquet: a row a picture, numbers of all tables."""
    names = list(dict.fromkeys(name for table in judged for name in table.reduced.numbers))
    parts = []
    for table in judged:
        plain, n = table.found.plain, len(table.found.part)
        columns = {"table": pa.array([table.reduced.score.name] * n, pa.string())}
        columns |= {name: plain.column(name) for name in ("idx", "text", "row", "sample")}
        for name in names:
            values = table.reduced.numbers.get(name, np.full(n, np.nan))
            columns[name] = pa.array(values, pa.float64(), from_pandas=True)  # NaN as null
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)
