"""scores: what was measured of single pictures; metrics of a table are made of these rows.

Key: (part, row, sample): `row` counts the rows of the input file as rejects do, `sample` the pictures of its
cell. Then, each only where it was asked for:
    wanted_*, read_*        values of painter_core.sample.captions.VALUES: what the caption asks for, and what
                            the judge read off the picture
    inception, inception_blur4 ...   Inception's features, float32; inception_rec of the reconstruction
    clip_image, clip_text   CLIP's vectors of picture and caption, of length 1
    bits_per_code           of the picture's codes under a model
    caption_nats, caption_tokens   -log p of the caption given the picture, and over how many ids that is
    psnr (dB), ssim, lpips  of a VQGAN's reconstruction
"""

from collections.abc import Mapping

import pyarrow as pa

NAME = "scores"
INCEPTION_WIDTH = 2048
INCEPTION_REC = "inception_rec"
CLIP_IMAGE, CLIP_TEXT = "clip_image", "clip_text"
CAPTION_NATS, CAPTION_TOKENS = "caption_nats", "caption_tokens"
BITS, PSNR, SSIM, LPIPS = "bits_per_code", "psnr", "ssim", "lpips"


def inception_column(blur: int) -> str:
    """Name of the features after a blur of this radius."""
    return f"inception_blur{blur}" if blur else "inception"


def schema(attributes: tuple[str, ...], vectors: Mapping[str, int], numbers: tuple[str, ...]) -> pa.Schema:
    """The schema for some attributes, vectors with their widths, and numbers; any of them may be empty."""
    strings = [*(f"wanted_{a}" for a in attributes), *(f"read_{a}" for a in attributes)]
    return pa.schema(
        [
            pa.field("idx", pa.string()),
            pa.field("text", pa.string()),
            pa.field("row", pa.int64()),
            pa.field("sample", pa.int32()),
            pa.field("format", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            *(pa.field(name, pa.string()) for name in strings),
            *(
                pa.field(name, pa.list_(pa.field("item", pa.float32(), nullable=False), width))
                for name, width in vectors.items()
            ),
            *(pa.field(name, pa.float64()) for name in numbers),
        ]
    )
