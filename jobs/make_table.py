"""Picture files to a pairs table: a folder of pictures with captions, or the bundled sample.

python jobs/make_table.py --pictures photos/ --captions captions.tsv --outputs pairs.parquet
python jobs/make_table.py --sample 2000 --outputs pairs.tsv
"""

import logging

from painter_core.runs.command_line import check_path, parse
from painter_core.runs.outcome import Outcome
from painter_core.stages.make_table import MakeTableConfig, write_table

log = logging.getLogger(__name__)


def main() -> None:
    """Runs the job; it needs no cluster."""
    config = parse(MakeTableConfig, __doc__)
    with Outcome():
        for flag, path in (("--outputs", config.outputs), ("--pictures", config.pictures or "/")):
            check_path(flag, path)
        log.info("%d rows -> %s", write_table(config), config.outputs)


if __name__ == "__main__":
    main()
