"""Pictures to scores: reads off painted pictures what their captions ask for.

python jobs/evaluate.py --tables pictures.tsv --outputs score/ --attributes
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.evaluate import EvaluateConfig, evaluate


def main() -> None:
    """Runs the job."""
    config = parse(EvaluateConfig, __doc__)
    with Run(config.paths()) as run:
        evaluate(config, run)


if __name__ == "__main__":
    main()
