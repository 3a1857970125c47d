r"""Captions to pictures: paints a table of idx, text with a trained model, as idx, text, gen_imgbase64.

python jobs/generate.py --tables prompts.tsv --checkpoint-dir model/ --outputs pictures.tsv

ray job submit --working-dir . -- python jobs/generate.py --tables s3://b/prompts/ \
    --checkpoint-dir s3://b/model/ --outputs s3://b/pictures/
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.run import generate


def main() -> None:
    """Runs the job."""
    config = parse(GenerateConfig, __doc__, easynlp="generate")
    with Run(config.paths()) as run:
        generate(config, run)


if __name__ == "__main__":
    main()
