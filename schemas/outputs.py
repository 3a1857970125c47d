"""outputs: painted pictures.

Key: (part, row). text is the prompt as given. gen_imgbase64 is one encoded picture in standard base64. With
several pictures a prompt there is one row a picture and `sample` counts them from 0.

With --keep-best there are fewer, `sample` is still the number that a picture was drawn with, and `rank` (0 is
the best) says how good it is among those that were drawn. score_logp and score_gain are sums in nats over the
codes that were drawn (painter_core/painting/scores.py).

With --easynlp-format there is one row a prompt, text is what the model saw, and gen_imgbase64 the repr of a
list of pictures.
"""

import pyarrow as pa

NAME = "outputs"
IMAGE_COLUMN = "gen_imgbase64"
SAMPLE_COLUMN = "sample"
RANK_COLUMN = "rank"
SCORE_COLUMN = "score_{}"
NUMBERS = {
    SAMPLE_COLUMN: pa.int32(),
    RANK_COLUMN: pa.int32(),
    SCORE_COLUMN.format("logp"): pa.float32(),
    SCORE_COLUMN.format("gain"): pa.float32(),
}
"""Columns that are told of each picture; the others are strings."""


def schema(columns: tuple[str, ...]) -> pa.Schema:
    """The schema for `columns`, in their order."""
    return pa.schema([pa.field(name, NUMBERS.get(name, pa.string())) for name in columns])
