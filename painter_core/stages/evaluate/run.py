"""tables of pictures -> their score: every table by units, then what they come to, and the report."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from painter_core.runs.cluster import Cluster, start_ray
from painter_core.runs.gpus import log_models
from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts, Step, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.evaluate.best import best_job, check_best, remove_best, write_best
from painter_core.stages.evaluate.config import EvaluateConfig
from painter_core.stages.evaluate.extract import extract
from painter_core.stages.evaluate.judges import files_of, memory_per_row, weights_of
from painter_core.stages.evaluate.measure import MeasurePictures
from painter_core.stages.evaluate.prepare import PrepareCodes, PreparePictures, ScoresPart
from painter_core.stages.evaluate.reference import check_reference, keep_statistics
from painter_core.stages.evaluate.sources import REFERENCE, Source, plan_sources, reference_is_table
from painter_core.stages.evaluate.write import remove_report, write_report

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig, run: Run) -> None:
    """Judges every table of --tables, and writes the report on all of them."""
    evaluate_tables(config, run, start_ray(config.model_flags().gpu_wait()), TableRun.execute)


def evaluate_tables(config: EvaluateConfig, run: Run, cluster: Cluster, execute: Callable[..., None]) -> None:
    """The same on a cluster, or here.

    Args:
        execute: TableRun.execute or TableRun.execute_here.
    """
    sources = plan_sources(config)
    judge = sources[0].judging.inception
    if config.reference is not None and judge and not reference_is_table(config.reference):
        check_reference(config.reference, judge)
    judged = [source for source in sources if source.name != REFERENCE and config.keep_best is not None]
    best = {source.name: best_job(config, source) for source in judged}
    for job in best.values():
        check_best(job, run, cluster)
    if any(source.judging.needs_model for source in sources):
        log_models(config.model_flags(), cluster)
    runs = []
    for source in sources:
        table = TableRun(table_job(source, config), run, cluster)
        steps, parts = steps_of(source, table.micro_batch_size, gpu=table.resources.uses_gpu)
        execute(table, *steps, parts=parts)
        run.ended()
        if table.writes:
            remove_report(config.table.outputs)  # of the rows that stood there before
            if config.table.overwrite:
                remove_best(source.table.outputs)
        runs.append(table)
    made = "statistics" if config.stats_only else ""
    run.then(next_step("evaluate", config.table.outputs, made=made, dry_run=config.table.dry_run))
    if config.table.dry_run:
        return
    with tempfile.TemporaryDirectory(prefix="painter-evaluate-") as folder:
        if config.stats_only:
            _keep_statistics(sources, Path(folder))
        else:
            found = write_report(config, sources, runs, Path(folder))
            for name, job in best.items():
                write_best(job, found[name], run, cluster, execute)


def table_job(source: Source, config: EvaluateConfig) -> TableJob:
    """The job that makes a scores table."""
    judging = source.judging
    return TableJob(
        stage="evaluate",
        table="scores",
        flags=source.table,
        columns=source.columns,
        identity={"format": 2, **judging.identity()},
        model=config.model_flags(),
        row_bytes=source.row_bytes,
        memory_per_row=memory_per_row(judging),
        weights_bytes=weights_of(judging),
        picture_bytes=judging.forms().dtype.itemsize,
        reads=files_of(judging),
    )


def steps_of(source: Source, micro_batch_size: int, *, gpu: bool) -> tuple[list[Step], Parts]:
    """From a unit's cells to its part."""
    judging, keep = source.judging, source.table.keep_rejected
    prepare = (
        PrepareCodes(judging=judging)
        if judging.is_codes
        else PreparePictures(judging=judging, keep_rejected=keep)
    )
    steps: list[Step] = [Tasks(operator=prepare)]
    if judging.needs_model:
        arguments = {"judging": judging, "micro_batch_size": micro_batch_size, "gpu": gpu}
        steps.append(Actors(operator=MeasurePictures, arguments=arguments))
    return steps, Parts(build=ScoresPart(judging=judging))


def _keep_statistics(sources: list[Source], root: Path) -> None:
    for i, source in enumerate(sources):
        folder = root / str(i)
        folder.mkdir()
        found = extract(source.table.outputs, source.table.tables, folder)
        if found.rows.pictures < 2:
            raise ValueError(f"--tables {found.rows.path}: 1 picture; mean and covariance need 2 or more")
        assert source.judging.inception is not None
        for file in keep_statistics(source.table.outputs, found, source.judging.inception):
            log.info("statistics of %d pictures -> %s", found.rows.pictures, file)
