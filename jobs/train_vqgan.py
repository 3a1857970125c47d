r"""Pictures to a VQGAN: trains one on a pairs table, or fine-tunes a given one.

python jobs/train_vqgan.py --tables train.parquet,valid.parquet --outputs vqgan/ --image-size 64 \
    --ch 32 --ch-mult 1 2 2 4 --num-res-blocks 1 --attn-resolutions 8 --z-channels 16 --embed-dim 16 \
    --codebook-size 1024

python jobs/train_vqgan.py --tables pairs.tsv --outputs vqgan/ --vqgan f16_16384/ --decoder-only
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.train_vqgan.run import train_vqgan
from painter_core.training.vqgan_config import VQGANTrainConfig


def main() -> None:
    """Runs the job."""
    config = parse(VQGANTrainConfig, __doc__)
    with Run(config.paths()) as run:
        train_vqgan(config, run)


if __name__ == "__main__":
    main()
