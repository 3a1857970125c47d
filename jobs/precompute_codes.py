"""Pictures to codes: streams tables of idx, text and picture through a VQGAN and writes idx, text, codes.

python jobs/precompute_codes.py --tables pairs.tsv --outputs codes/

ray job submit --working-dir . -- python jobs/precompute_codes.py --tables s3://b/pairs/ --outputs s3://b/codes/
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.precompute_codes import PrecomputeConfig, precompute_codes


def main() -> None:
    """Runs the job."""
    config = parse(PrecomputeConfig, __doc__, easynlp="precompute")
    with Run(config.paths()) as run:
        precompute_codes(config, run)


if __name__ == "__main__":
    main()
