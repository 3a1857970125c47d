"""captions: text that a model wrote for pictures, or how likely it finds text that was given.

Key: (part, row). gen_text is what was written, `sample` counts the captions of a picture from 0. `score` is
the sum of log p in nats over the caption's word pieces and the [PAD] that ends it, given the picture
(painter_core/painting/caption_sampling.py); score_per_token is the mean. With --score-only there is `text`,
the given caption, instead of gen_text. Other columns are the input's, carried through.
"""

import pyarrow as pa

NAME = "captions"
TEXT, GIVEN, SAMPLE, SCORE, MEAN = "gen_text", "text", "sample", "score", "score_per_token"
NUMBERS = {SAMPLE: pa.int32(), SCORE: pa.float32(), MEAN: pa.float32()}
WRITTEN = ("idx", TEXT, SAMPLE, SCORE, MEAN)
SCORED = ("idx", GIVEN, SCORE, MEAN)


def schema(columns: tuple[str, ...]) -> pa.Schema:
    """The schema for `columns`, in their order."""
    return pa.schema([pa.field(name, NUMBERS.get(name, pa.string())) for name in columns])
