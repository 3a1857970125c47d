"""What a table holds, whole or unfinished: rows, rejects, captions, pictures, codes; --verify finds damage.

python jobs/inspect_table.py --tables pairs.tsv

python jobs/inspect_table.py --tables codes/train --verify --json report.json --outputs samples/
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.run import inspect_table


def main() -> None:
    """Runs the job."""
    config = parse(InspectConfig, __doc__)
    with Run(config.paths()) as run:
        inspect_table(config, run)


if __name__ == "__main__":
    main()
