"""The operators of jobs/upscale.py on CPUs: cells of a unit -> larger pictures -> cells. Without torch.

Between them a unit's table has, in place of the cell, `pictures`: the encoded pictures of the row, a list
of bytes (a cell of EasyNLP's form may hold several), and `listed`: whether they stood in such a list.
Pictures travel encoded, and one is decoded at a time: a unit of small files may hold more pixels than a
machine has memory.
"""

import base64
import dataclasses
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from painter_core.easynlp.output import cells_of_output, picture_cell
from painter_core.errors import Reject
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import ImageFormat, encode_image, load_rgb
from painter_core.images.isolate import decoder
from painter_core.tables.rejects import RejectLog
from painter_core.tables.row_checks import check_tsv_text
from painter_core.tables.unit_row import UnitRow, unpack_schema
from painter_core.upscaling.lanczos import check_enlarged, enlarged
from schemas.pairs import MAX_CELL_BYTES

TIMEOUT_S = 60.0  # for a cell: 50 million pixels are decoded, enlarged and encoded in about 10 s of a CPU
PICTURES = pa.list_(pa.large_binary())


@dataclass(frozen=True, kw_only=True)
class EnlargeCell:
    """A cell -> its pictures, checked, enlarged and encoded: packed(), as uint8 (n,)."""

    scale: int
    """How much larger pictures become in the end."""
    by_lanczos: bool
    """Whether they become larger here; else they go on as PNGs of their size."""
    image_format: ImageFormat

    def __call__(self, cell: str | bytes | None, notes: Counter[str]) -> np.ndarray:
        images = []
        for one in cells_of_output(cell):
            picture = load_rgb(image_of_cell(one, notes), notes=notes)
            check_enlarged(*picture.size, self.scale)
            pixels = np.asarray(picture)
            if self.by_lanczos:
                images.append(encode_image(enlarged(pixels, self.scale), self.image_format))
            else:
                images.append(encode_image(pixels))
        return packed(images)


def packed(images: Sequence[bytes]) -> np.ndarray:
    """Encoded pictures in one array: how many, their lengths (8 bytes each), and then all of them."""
    head = np.array([len(images), *map(len, images)], np.int64)
    return np.frombuffer(head.tobytes() + b"".join(images), np.uint8)


def unpacked(data: np.ndarray) -> list[bytes]:
    """What packed() was given."""
    whole = data.tobytes()
    count = int(np.frombuffer(whole[:8], np.int64)[0])
    ends = np.cumsum(np.frombuffer(whole[8 : 8 + 8 * count], np.int64)) + 8 + 8 * count
    return [whole[start:end] for start, end in zip([8 + 8 * count, *ends[:-1]], ends, strict=True)]


def decoded(image: bytes) -> np.ndarray:
    """uint8 (H, W, 3) of a PNG that EnlargeCell passed on."""
    with Image.open(io.BytesIO(image), formats=["PNG"]) as picture:
        return np.asarray(picture)


def check_cell_size(images: Sequence[bytes]) -> None:
    """Raises Reject for pictures whose cell no job would read."""
    size = sum(-(-len(image) // 3) * 4 + 4 for image in images)
    if size > MAX_CELL_BYTES:
        raise Reject("cell_too_large", f"{size:,} bytes once it is enlarged, at most {MAX_CELL_BYTES:,}")


@dataclass(frozen=True, kw_only=True)
class EnlargePictures:
    """CPU operator: the cells of a unit -> pictures."""

    enlarge: EnlargeCell
    column: str
    """The picture's, as rejects name it."""
    columns: tuple[str, ...]
    """What else of a row goes on."""
    texts: tuple[str, ...] = ()
    """Columns without a place for tabs and line ends: those of text, if the output is a TSV."""
    keep_rejected: bool = False
    in_child: bool | None = None
    """Whether to decode in another process; by default as in images.isolate.decoder."""

    def __call__(self, row: UnitRow) -> UnitRow:
        log = RejectLog(stage="upscale", keep_cell=self.keep_rejected)
        notes = Counter(row.warnings)
        kept: list[int] = []
        found: list[list[bytes]] = []
        listed: list[bool] = []
        with decoder(self.enlarge, timeout_s=TIMEOUT_S, in_child=self.in_child) as enlarge:
            for i, line in enumerate(row.table.to_pylist()):
                cell = line["image"]
                try:
                    for name in self.texts:
                        check_tsv_text(line[name], name)
                    images = unpacked(enlarge(cell, notes, row=line["row"]))
                    check_cell_size(images)
                except Reject as error:
                    error.column = error.column or self.column
                    log.add(line, error, cell=cell)
                    continue
                kept.append(i)
                found.append(images)
                listed.append(isinstance(cell, str) and cell.lstrip().startswith("["))
        done = with_pictures(row.keep(kept, log, [*self.columns]), found, listed)
        return dataclasses.replace(done, warnings=notes)


def with_pictures(row: UnitRow, pictures: list[list[bytes]], listed: list[bool]) -> UnitRow:
    """The unit with these columns besides."""
    table = row.table.append_column("pictures", pa.array(pictures, PICTURES))
    return dataclasses.replace(row, table=table.append_column("listed", pa.array(listed, pa.bool_())))


@dataclass(frozen=True, kw_only=True)
class EnlargedTable:
    """The part of a unit: the columns of the input, the pictures larger."""

    schema: bytes
    """Of the output, packed."""
    idx: str | None
    """Column of the key; None if it was the row's number, which is not written."""
    picture: str

    def __call__(self, row: UnitRow) -> pa.Table:
        schema, columns = unpack_schema(self.schema), []
        for field in schema:
            if field.name == self.picture:
                columns.append(pa.array(self._cells(row.table, field.type), field.type))
            else:
                name = "idx" if field.name == self.idx else field.name
                columns.append(row.table.column(name).combine_chunks().cast(field.type))
        return pa.Table.from_arrays(columns, schema=schema)

    def _cells(self, table: pa.Table, kind: pa.DataType) -> list[str] | list[bytes]:
        pictures, listed = table.column("pictures").to_pylist(), table.column("listed").to_pylist()
        if pa.types.is_binary(kind):
            return [images[0] for images in pictures]
        texts = [[base64.b64encode(image).decode() for image in images] for images in pictures]
        return [picture_cell(t) if is_list else t[0] for t, is_list in zip(texts, listed, strict=True)]
