"""Checkpoints of EasyNLP and taming-transformers to a model directory, and a model directory to EasyNLP.

python jobs/convert_checkpoint.py --source pai-painter-base-zh/ --outputs model/

python jobs/convert_checkpoint.py --source vqgan_f16_16384.bin --outputs vqgan/

python jobs/convert_checkpoint.py --source model/best --outputs easynlp/ --to easynlp

python jobs/convert_checkpoint.py --list
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.convert_checkpoint import ConvertConfig, convert_checkpoint


def main() -> None:
    """Runs the job."""
    config = parse(ConvertConfig, __doc__)
    with Run(config.paths()) as run:
        convert_checkpoint(config, run)


if __name__ == "__main__":
    main()
