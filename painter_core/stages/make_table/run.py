"""Pictures with captions, or the bundled sample -> a pairs table: the job."""

import logging

from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.write import write_table

log = logging.getLogger(__name__)


def make_table(config: MakeTableConfig, run: Run) -> None:
    """pictures -> pairs."""
    log.info("%d rows -> %s", write_table(config), config.outputs)
    run.then(next_step("make_table", config.outputs, made="prompts" if config.prompts else ""))
