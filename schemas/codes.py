"""codes: a caption and its picture as VQGAN codes.

Key: (part, row). codes: uint16, image_len of them in raster order, each below the VQGAN's codebook_size (at
most 65536). views: the codes of other views of the picture, (variants - 1) * image_len of them, where the
table was made with --variants; only training reads them. With dictionary encoding a row of 256 codes takes
about 512 bytes.
"""

import pyarrow as pa

NAME = "codes"


VIEWS_COLUMN = "views"


def schema(image_len: int, variants: int = 1) -> pa.Schema:
    """The schema for pictures of `image_len` codes, each in so many views."""
    fields = [
        pa.field("idx", pa.string()),
        pa.field("text", pa.string()),
        pa.field("codes", _list(image_len)),
    ]
    if variants > 1:
        fields.append(pa.field(VIEWS_COLUMN, _list(image_len * (variants - 1))))
    return pa.schema(fields)


def _list(length: int) -> pa.DataType:
    return pa.list_(pa.field("item", pa.uint16(), nullable=False), length)
