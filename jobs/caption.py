r"""Pictures to captions: writes text for a table of pictures or codes with a trained model, as idx, gen_text.

python jobs/caption.py --tables pictures.parquet --checkpoint-dir model/ --outputs captions.tsv

ray job submit --working-dir . -- python jobs/caption.py --tables s3://b/codes/ \
    --checkpoint-dir s3://b/model/ --outputs s3://b/captions/
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.caption.config import CaptionConfig
from painter_core.stages.caption.run import caption


def main() -> None:
    """Runs the job."""
    config = parse(CaptionConfig, __doc__, easynlp="caption")
    with Run(config.paths()) as run:
        caption(config, run)


if __name__ == "__main__":
    main()
