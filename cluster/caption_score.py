"""Prints how many attributes a table of captions names right, for pictures of the bundled sample.

python cluster/caption_score.py captions.parquet score.md

captions.parquet is written by jobs/caption.py with --append-cols text; score.md, of the painted pictures, by
jobs/evaluate.py --attributes, and is printed before.
"""

import sys
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from painter_core.sample.caption_score import score_captions


def main(path: str, score: str) -> None:
    """Prints the shares as a table of Markdown."""
    print(f"painted pictures: attributes that they show right\n{Path(score).read_text(encoding='utf-8')}")
    table = pq.read_table(path, columns=["gen_text", "text"])
    found = score_captions(table["gen_text"].to_pylist(), table["text"].to_pylist())
    shares = found.attributes | {"single attributes": found.single, "all right": found.all_right}
    print(f"captions of {found.num_pictures} held-out pictures: attributes that they name right")
    print(f"| {' | '.join(shares)} |\n|{'---|' * len(shares)}")
    print(f"| {' | '.join(f'{share:.1%}' for share in shares.values())} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
