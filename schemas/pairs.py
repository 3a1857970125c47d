"""pairs: a caption and its picture, what users bring.

Key: (file, row); idx should be unique but need not be. imgbase64 holds one encoded picture (JPEG, PNG, WebP,
GIF, BMP or AVIF) as base64 text; in Parquet the column may also be binary, the encoded bytes themselves. A
cell has at most MAX_CELL_BYTES.
"""

import pyarrow as pa

NAME = "pairs"
MAX_CELL_BYTES = 64 * 2**20
SCHEMA = pa.schema(
    [pa.field("idx", pa.string()), pa.field("text", pa.string()), pa.field("image", pa.binary())]
)
