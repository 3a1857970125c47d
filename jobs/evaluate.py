"""Pictures to scores: reads off painted pictures what their captions ask for.

python jobs/evaluate.py --tables pictures.tsv --outputs score/ --attributes
"""

import logging

from painter_core.runs.command_line import parse
from painter_core.runs.table_run import Job
from painter_core.stages.evaluate import SCORE_BYTES, EvaluateConfig, JudgePictures, scores_table, write_score
from painter_core.tables.part_writer import PartWriter

log = logging.getLogger(__name__)


def main() -> None:
    """Runs the job."""
    config = parse(EvaluateConfig, __doc__)
    with Job("evaluate", config.run, config.columns()) as job:
        job.start()
        job.make_plan({"judge": "attributes", "format": 1}, {}, row_bytes=SCORE_BYTES)
        judge = JudgePictures(config=config)
        if config.run.dry_run:
            job.sample(JudgePictures(config=config, in_child=True), build=scores_table)
        writer = PartWriter(directory=job.directory, build=scores_table)
        job.execute(
            lambda: (
                job.read()
                .map(judge.__call__, **job.resources.tasks(1.0))
                .map(writer.__call__, **job.resources.tasks(0.5))
            ),
            extra={"table": "scores"},
        )
        log.info("score\n%s", write_score(job.directory).to_markdown())


if __name__ == "__main__":
    main()
