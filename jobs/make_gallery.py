"""Pictures to an HTML page: an output table (caption, picture), or a codes table beside its originals.

python jobs/make_gallery.py --tables pictures.tsv --outputs gallery.html
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.make_gallery.entries import GalleryConfig, make_gallery


def main() -> None:
    """Runs the job."""
    config = parse(GalleryConfig, __doc__)
    with Run(config.paths()) as run:
        make_gallery(config, run)


if __name__ == "__main__":
    main()
