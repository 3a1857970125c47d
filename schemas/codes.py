"""codes: a caption and its picture as VQGAN codes.

Key: (part, row). codes: uint16, image_len of them in raster order, each below the VQGAN's codebook_size (at
most 65536). With dictionary encoding a row of 256 codes takes about 512 bytes.
"""

import pyarrow as pa

NAME = "codes"


def schema(image_len: int) -> pa.Schema:
    """The schema for pictures of `image_len` codes."""
    return pa.schema(
        [
            pa.field("idx", pa.string()),
            pa.field("text", pa.string()),
            pa.field("codes", pa.list_(pa.field("item", pa.uint16(), nullable=False), image_len)),
        ]
    )
