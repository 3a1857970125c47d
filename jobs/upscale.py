r"""Larger pictures: an output table with its pictures enlarged 2 or 4 times, all other columns as they are.

python jobs/upscale.py --tables pictures.tsv --outputs larger.tsv --upscale 2

python jobs/upscale.py --tables pictures/ --outputs larger/ --upscaler RealESRGAN_x4plus.pth
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.stages.upscale.run import upscale


def main() -> None:
    """Runs the job."""
    config = parse(UpscaleConfig, __doc__)
    with Run(config.paths()) as run:
        upscale(config, run)


if __name__ == "__main__":
    main()
