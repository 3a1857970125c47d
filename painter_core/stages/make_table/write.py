"""Rows of pictures and captions -> a table file, written as they come: memory holds one row group. Rows that
cannot be used go to a table of their own.

Rows are made in one process: drawing or copying pictures is quick beside everything that follows.
"""

import base64
import io
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from painter_core.errors import Refused
from painter_core.files.storage import filesystem, new_file, redact
from painter_core.sample.pictures import sample_row
from painter_core.sample.scenes import drawn_scene
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.folder import folder_rows
from painter_core.stages.make_table.rejects import Rejected
from painter_core.stages.make_table.row import Row
from painter_core.stages.make_table.source import source_rows
from schemas import pairs, prompts

ROW_GROUP_ROWS = 256  # a unit reads whole row groups, so that they are kept small
ROW_GROUP_BYTES = 256 * 2**20  # of pictures: fewer rows where they are large, as in a unit
PIECE_BYTES = 8 * 2**20


def write_table(config: MakeTableConfig) -> int:
    """Writes the table, whole or not at all, and returns the number of rows.

    Raises:
        ValueError: a picture has no caption, a caption no picture, or a file cannot be read; names it.
        Refused: the output exists.
        Stop: too many rows were rejected (exit code 3); their table is written.
    """
    fs, path = filesystem(config.outputs)
    if fs.exists(path) and not config.overwrite:
        raise Refused(
            f"{redact(config.outputs)} exists; name another --outputs, or replace it with --overwrite"
        )
    rejected = Rejected(config.outputs, config.max_reject_fraction)
    rows = rejected.good(_rows(config))
    with new_file(fs, path) as sink:
        write = _write_tsv if path.endswith(".tsv") else _write_parquet
        count = write(rows, sink, with_pictures=not config.prompts)
        rejected.check()
        return count


def _rows(config: MakeTableConfig) -> Iterator[Row]:
    if config.source is not None:
        return source_rows(config)
    return folder_rows(config) if config.sample is None else _sample(config)


def _write_tsv(rows: Iterator[Row], sink: BinaryIO, *, with_pictures: bool) -> int:
    count = 0
    for row in rows:
        picture = (base64.b64encode(row.image).decode(),) if with_pictures else ()
        cells = (row.idx, row.text, *picture)
        sink.write(("\t".join(cells) + "\n").encode())
        count += 1
    return count


def _write_parquet(rows: Iterator[Row], sink: BinaryIO, *, with_pictures: bool) -> int:
    schema = pairs.SCHEMA if with_pictures else prompts.SCHEMA
    count = 0
    # pictures are compressed already
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for group in _row_groups(rows, schema):
            writer.write_table(group)
            count += len(group)
    return count


def _row_groups(rows: Iterator[Row], schema: pa.Schema) -> Iterator[pa.Table]:
    """A table a row group. Pictures go over to Arrow in pieces, so that a group is not held twice."""
    batches, piece = list[pa.RecordBatch](), list[Row]()
    num_rows = num_bytes = piece_bytes = 0
    for row in rows:
        piece.append(row)
        size = len(row.image)
        num_rows, num_bytes, piece_bytes = num_rows + 1, num_bytes + size, piece_bytes + size
        is_full = num_rows == ROW_GROUP_ROWS or num_bytes >= ROW_GROUP_BYTES
        if is_full or piece_bytes >= PIECE_BYTES:
            batches.append(_batch(piece, schema))
            piece, piece_bytes = [], 0
        if is_full:
            yield pa.Table.from_batches(batches)
            batches, num_rows, num_bytes = [], 0, 0
    if piece:
        batches.append(_batch(piece, schema))
    if batches:
        yield pa.Table.from_batches(batches)


def _batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array([getattr(row, f.name) for row in rows], f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _sample(config: MakeTableConfig) -> Iterator[Row]:
    seed, side, styles = config.random_seed, config.image_size, config.style_names()
    for index in range(config.sample or 0):
        row = sample_row(seed, index, split=config.split, image_size=side, styles=styles)
        yield Row(file="sample", number=index + 1, idx=row.idx, text=row.text, image=_png(row.image))
    for index in range(config.scenes):
        scene = drawn_scene(config.random_seed, index, config.image_size)
        idx = f"scene-{config.random_seed}-{index}"
        yield Row(file="sample", number=index + 1, idx=idx, text="风景画", image=_png(scene))


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
