"""Codes to a model: fits the GPT on cached codes across workers and writes a model directory.

python jobs/train.py --tables codes/train,codes/valid --checkpoint-dir model/ --model base --epoch-num 10
python jobs/train.py --tables train.tsv,valid.tsv --codes-dir codes/ --checkpoint-dir model/
ray job submit --working-dir . -- python jobs/train.py --tables /data/train,/data/valid --checkpoint-dir
/data/model
    --num-workers 8
"""

from painter_core.runs.cluster import start_ray
from painter_core.runs.command_line import check_path, parse
from painter_core.runs.outcome import Outcome
from painter_core.stages.train.codes import TrainJobConfig, make_codes
from painter_core.stages.train.plan import make_plan
from painter_core.stages.train.run import fit


def main() -> None:
    """Runs the job."""
    config = parse(TrainJobConfig, __doc__, job="train")
    with Outcome() as outcome:
        check_path("--tables", config.train.tables)
        check_path("--checkpoint-dir", config.train.checkpoint_dir)
        if config.pairs.codes_dir is not None:
            check_path("--codes-dir", config.pairs.codes_dir)
        start_ray()
        plan, run = make_plan(make_codes(config, outcome), outcome)
        run.end(fit(plan))


if __name__ == "__main__":
    main()
