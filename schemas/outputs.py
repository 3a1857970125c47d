"""outputs: painted pictures.

Key: (part, row). text is the prompt as given. gen_imgbase64 is one encoded picture in standard base64. With
several pictures a prompt there is one row a picture and `sample` counts them from 0.

With --keep-best there are fewer, `sample` is still the number that a picture was drawn with, and `rank` (0 is
the best) says how good it is among those that were drawn. score_logp and score_gain are sums in nats over the
codes that were drawn, score_caption over the caption's ids (painter_core/painting/scores.py). With
--codes-column `codes` holds the codes, as a codes table does (codes.py); without gen_imgbase64 the table is
one.

jobs/upscale.py writes the columns of its input, whatever they are, with larger pictures. jobs/evaluate.py
--keep-best writes some of its input's rows, with `rank`.

With --sweep there is one row a setting and picture, and a column for each setting that changes.

With --easynlp-format there is one row a prompt, text is what the model saw, and gen_imgbase64 the repr of a
list of pictures.
"""

import pyarrow as pa

from schemas import codes

NAME = "outputs"
IMAGE_COLUMN = "gen_imgbase64"
SAMPLE_COLUMN = "sample"
RANK_COLUMN = "rank"
CODES_COLUMN = "codes"
SCORE_COLUMN = "score_{}"
NUMBERS = {
    SAMPLE_COLUMN: pa.int32(),
    RANK_COLUMN: pa.int32(),
    SCORE_COLUMN.format("logp"): pa.float32(),
    SCORE_COLUMN.format("gain"): pa.float32(),
    SCORE_COLUMN.format("caption"): pa.float32(),
    SCORE_COLUMN.format("clip"): pa.float32(),
    "top_k": pa.int32(),
    "top_p": pa.float64(),
    "temperature": pa.float64(),
    "guidance_scale": pa.float64(),
}
"""Columns that are told of each picture; the others are strings."""


def schema(columns: tuple[str, ...], image_len: int = 0, carried: tuple[str, ...] = ()) -> pa.Schema:
    """The schema for `columns`, in their order; of pictures of image_len codes if `codes` is one of them.

    Args:
        carried: columns of the input, which are text whatever their names.
    """
    kinds = NUMBERS | {CODES_COLUMN: codes.schema(max(image_len, 1)).field(CODES_COLUMN).type}
    kinds = {name: kind for name, kind in kinds.items() if name not in carried}
    return pa.schema([pa.field(name, kinds.get(name, pa.string())) for name in columns])
