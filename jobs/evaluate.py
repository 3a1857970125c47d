r"""Tables of pictures to their score: FID, KID, IS, CLIP score and likelihood, or the sample's attributes.

python jobs/evaluate.py --tables pictures.tsv --outputs score/ --attributes

python jobs/evaluate.py --tables guidance1.tsv,guidance2.tsv --outputs score/ --metrics fid,kid,is,clip \
    --reference valid.tsv --inception pt_inception-2015-12-05-6726825d.pth --clip chinese-clip/

python jobs/evaluate.py --tables valid.tsv --outputs score/ --reconstruction --vqgan bundled
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.evaluate.config import EvaluateConfig
from painter_core.stages.evaluate.run import evaluate


def main() -> None:
    """Runs the job."""
    config = parse(EvaluateConfig, __doc__)
    with Run(config.paths()) as run:
        evaluate(config, run)


if __name__ == "__main__":
    main()
