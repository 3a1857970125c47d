"""A table of pictures as one HTML page: an output table (caption, picture), or a codes table beside its
originals.

python jobs/make_gallery.py --tables pictures.tsv --outputs gallery.html
"""

import logging

from painter_core.runs.command_line import check_path, parse
from painter_core.runs.outcome import Outcome
from painter_core.stages.make_gallery.entries import GalleryConfig, write_page

log = logging.getLogger(__name__)


def main() -> None:
    """Runs the job; it needs no cluster."""
    config = parse(GalleryConfig, __doc__)
    with Outcome():
        check_path("--tables", config.tables)
        check_path("--outputs", config.outputs)
        log.info("%d pictures -> %s", write_page(config), config.outputs)


if __name__ == "__main__":
    main()
