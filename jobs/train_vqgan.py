"""Pictures to a VQGAN: trains one on a pairs table, or fine-tunes a given one.

python jobs/train_vqgan.py --tables train.parquet,valid.parquet --outputs vqgan/ --image-size 64 --ch 32
    --ch-mult 1 2 2 4 --num-res-blocks 1 --attn-resolutions 8 --z-channels 16 --embed-dim 16 --codebook-size
    1024
python jobs/train_vqgan.py --tables pairs.tsv --outputs vqgan/ --vqgan f16_16384/ --decoder-only
"""

from painter_core.runs.cluster import start_ray
from painter_core.runs.command_line import check_path, parse
from painter_core.runs.outcome import Outcome
from painter_core.stages.train_vqgan.plan import make_plan
from painter_core.stages.train_vqgan.run import fit
from painter_core.training.vqgan_config import VQGANTrainConfig


def main() -> None:
    """Runs the job."""
    config = parse(VQGANTrainConfig, __doc__)
    with Outcome() as outcome:
        check_path("--tables", config.tables)
        check_path("--outputs", config.outputs)
        start_ray()
        plan, run = make_plan(config, outcome)
        run.end(fit(plan))


if __name__ == "__main__":
    main()
