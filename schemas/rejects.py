"""rejects: input rows that were set aside, and why.

Key: (file, row). row counts from 1: physical lines of a TSV, rows of a Parquet file. byte_offset is where
the line starts in a TSV (in the decompressed stream of a .gz), null for Parquet. reason is one of REASONS;
detail says what was found. The cell itself is kept only when asked. docs/REJECTS.md lists the reasons for
users; a test compares it with this file.
"""

import pyarrow as pa

NAME = "rejects"

REASONS = {
    "bad_columns": "the line has another number of columns than --input-schema",
    "truncated_row": "the file's last line has too few columns and no line end: is it still being written?",
    "row_too_large": "the line is longer than 64 MiB",
    "text_encoding": "the line, or a cell of a Parquet file, is not valid UTF-8",
    "idx_invalid": "idx is empty or blank, longer than 1,024 characters, or holds a tab or a line end",
    "text_empty": "the caption is null, blank, or leaves no token",
    "text_control": "a cell holds a tab or a line end, which a .tsv output cannot carry",
    "text_all_unk": "every token of the caption is unknown to the vocabulary",
    "text_unscored": "the caption is not one of the bundled sample: it asks for no attributes",
    "record_damaged": "the line, archive member or record of another tool is not what its format asks for",
    "path_outside": "the row names a picture outside of the folder or archive that it belongs to",
    "codes_invalid": "the codes are not those of this model: their number, or one outside its codebook",
    "img_missing": "the row names a picture that is not there, or cannot be read",
    "img_empty": "the picture cell is empty or null",
    "b64_invalid": "the picture cell is not base64",
    "b64_mixed": "the picture cell mixes the standard and the url-safe alphabet of base64",
    "b64_repr": "the picture cell is a Python literal such as b'...' or ['...'], not base64",
    "b64_trailing": "the picture cell goes on after the padding: two values glued together?",
    "cell_too_large": "the picture cell is longer than 64 MiB",
    "img_unidentified": "the bytes are no picture",
    "img_format": "the picture has a format that is not accepted (JPEG, PNG, WebP, GIF, BMP and AVIF are)",
    "img_truncated": "the picture ends early or its data is damaged",
    "img_too_small": "the picture's shorter side is below 16 pixels",
    "img_too_large": "the picture has more than 50 million pixels",
    "img_aspect": "the picture's longer side is more than 20 times the shorter",
    "img_mode": "the picture's pixel format cannot be converted to RGB",
    "decode_timeout": "decoding the picture took longer than allowed",
    "worker_crash": "decoding the picture killed its worker twice",
}

WARNINGS = {
    "blank_line": "an empty line, passed over; row numbers count it",
    "idx_repeated": "an idx stands twice in one unit; both rows are kept, since a row's key is (file, row)",
    "idx_invisible": "idx holds control, zero-width or bidirectional characters, or a byte order mark",
    "text_invisible": "the caption holds control, zero-width or bidirectional characters",
    "text_formula": "the caption starts with = + - or @, which a spreadsheet takes for a formula",
    "text_quoted": "the caption stands in quotes, and those inside are doubled: see --quoting csv",
    "text_cut": "the caption has more tokens than the model sees; it is painted without its end",
    "prompt_cut": "the caption fits, but not with --prompt-prefix and --prompt-suffix, whose end is cut off",
    "text_unk": "some tokens of the caption are unknown to the model",
    "text_number": "the caption is a number: a class label instead of a caption?",
    "b64_data_uri": "a data: prefix stood before the base64",
    "b64_padding": "the base64 lacked its padding",
    "img_coarse": "a progressive JPEG without its last scans: coarser than it was made, as the format allows",
    "animated_first_frame": "the picture has several frames; the first is used",
}
"""What is noticed about rows that are kept."""

SCHEMA = pa.schema(
    [
        pa.field("stage", pa.string()),
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("byte_offset", pa.int64()),
        pa.field("idx", pa.string()),
        pa.field("column", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("text", pa.string()),
        pa.field("cell", pa.large_binary()),
    ]
)
