r"""Codes to a model: fits the GPT on cached codes across workers and writes a model directory.

python jobs/train.py --tables codes/train,codes/valid --checkpoint-dir model/ --model base --epoch-num 10

python jobs/train.py --tables train.tsv,valid.tsv --codes-dir codes/ --checkpoint-dir model/

ray job submit --working-dir . -- python jobs/train.py --tables /data/train,/data/valid \
    --checkpoint-dir /data/model --num-workers 8
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.train.codes import TrainJobConfig
from painter_core.stages.train.run import train


def main() -> None:
    """Runs the job."""
    config = parse(TrainJobConfig, __doc__, easynlp="train")
    with Run(config.paths()) as run:
        train(config, run)


if __name__ == "__main__":
    main()
