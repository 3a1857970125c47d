"""outputs: painted pictures.

Key: (part, row). text is the prompt as given. gen_imgbase64 is one encoded picture in standard base64. With
several pictures a prompt there is one row a picture and `sample` counts them from 0.

With --easynlp-format there is one row a prompt, text is what the model saw, and gen_imgbase64 the repr of a
list of pictures.
"""

import pyarrow as pa

NAME = "outputs"
IMAGE_COLUMN = "gen_imgbase64"
SAMPLE_COLUMN = "sample"


def schema(columns: tuple[str, ...]) -> pa.Schema:
    """The schema for `columns`, in their order; every column but `sample` is a string."""
    return pa.schema(
        [pa.field(name, pa.int32() if name == SAMPLE_COLUMN else pa.string()) for name in columns]
    )
