"""Checkpoints of EasyNLP and taming-transformers to a model directory, and a model directory to EasyNLP.

python jobs/convert_checkpoint.py --source pai-painter-base-zh/ --outputs model/
python jobs/convert_checkpoint.py --source vqgan_f16_16384.bin --outputs vqgan/
python jobs/convert_checkpoint.py --source model/best --outputs easynlp/ --to easynlp
"""

import logging

from painter_core.runs.command_line import check_path, fail, parse
from painter_core.stages.convert_checkpoint import ConvertConfig, convert

log = logging.getLogger(__name__)


def main() -> None:
    """Runs the job; exit codes as in painter_core.runs.outcome."""
    config = parse(ConvertConfig, __doc__)
    try:
        check_path("--source", config.source)
        check_path("--outputs", config.outputs)
        report = convert(config)
    except FileExistsError as error:
        fail(4, str(error))
    except ValueError as error:
        fail(2, str(error))
    for line in report:
        log.info("%s", line)


if __name__ == "__main__":
    main()
