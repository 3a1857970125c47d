"""Pictures with captions to a pairs table: folders, other tools' archives and tables, or the sample.

python jobs/make_table.py --pictures photos/ --captions captions.tsv --outputs pairs.parquet

python jobs/make_table.py --source "shards/*.tar" --outputs pairs.parquet

python jobs/make_table.py --sample 2000 --outputs pairs.tsv
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.run import make_table


def main() -> None:
    """Runs the job."""
    config = parse(MakeTableConfig, __doc__)
    with Run(config.paths()) as run:
        make_table(config, run)


if __name__ == "__main__":
    main()
