"""Picture files, or the bundled sample, -> pairs table.

Rows are written in one process: drawing or copying pictures is quick beside everything that follows.
"""

import base64
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from painter_core.errors import Refused
from painter_core.files.storage import filesystem, redact, write_bytes
from painter_core.flag_checks import check_range, check_seed
from painter_core.sample.pictures import sample_row
from painter_core.sample.scenes import drawn_scene
from schemas import pairs, prompts

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
MOST_ROWS, MOST_SIDE_PX = 10**9, 4096  # of the sample
ROW_GROUP_ROWS = 256  # a unit reads whole row groups, so that they are kept small

Row = tuple[str, str, bytes]


@dataclass(frozen=True, kw_only=True)
class MakeTableConfig:
    """A folder of pictures with captions, or the bundled sample -> pairs table (or prompts table)."""

    outputs: str
    """Output file: X.parquet (binary pictures) or X.tsv (base64)."""
    pictures: str | None = None
    """Folder of pictures, sub-folders included."""
    captions: str | None = None
    """Captions of the pictures: a TSV `file name, caption`, or JSON lines with `file` and `text`; by default
    the text
    in the .txt file of the same stem beside each picture."""
    sample: int | None = None
    """Draw this many rows of the bundled sample instead: product pictures with Chinese captions."""
    scenes: int = 0
    """Besides, this many drawn scenes that show no goods, for training a VQGAN that is no specialist."""
    split: Literal["train", "valid", "held_out"] = "train"
    """Which rows of the sample: held_out has combinations of attributes that train and valid never show."""
    image_size: int = 64
    """Side of the sample's pictures in pixels."""
    prompts: bool = False
    """Write idx and text only."""
    random_seed: int = 42
    """Seed of the sample."""
    overwrite: bool = False
    """Replace the output."""

    def __post_init__(self) -> None:
        if (self.pictures is None) == (self.sample is None):
            raise ValueError("give either --pictures FOLDER or --sample N")
        if not self.outputs.endswith((".parquet", ".tsv")):
            raise ValueError(f"--outputs {self.outputs}: expected a name that ends in .parquet or .tsv")
        check_range("--sample", self.sample, 0, MOST_ROWS)
        check_range("--scenes", self.scenes, 0, MOST_ROWS)
        check_range("--image-size", self.image_size, 1, MOST_SIDE_PX)
        check_seed(self.random_seed)


def write_table(config: MakeTableConfig) -> int:
    """Writes the table, whole or not at all, and returns the number of rows.

    Raises:
        ValueError: a picture has no caption or a caption no picture; names the file.
        Refused: the output exists.
    """
    fs, path = filesystem(config.outputs)
    if fs.exists(path) and not config.overwrite:
        raise Refused(
            f"{redact(config.outputs)} exists; name another --outputs, or replace it with --overwrite"
        )
    rows = list(_sample(config) if config.sample is not None else _folder(config))
    write_bytes(fs, path, _tsv(rows, config) if path.endswith(".tsv") else _parquet(rows, config))
    return len(rows)


def _tsv(rows: list[Row], config: MakeTableConfig) -> bytes:
    lines = []
    for idx, text, image in rows:
        if any(c in idx + text for c in "\t\r\n"):
            raise ValueError(
                f"{idx}: the caption holds a tab or a line end, which a TSV cannot; write a .parquet"
            )
        cells = (idx, text) if config.prompts else (idx, text, base64.b64encode(image).decode())
        lines.append("\t".join(cells) + "\n")
    return "".join(lines).encode()


def _parquet(rows: list[Row], config: MakeTableConfig) -> bytes:
    idx, text, image = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    table = (
        pa.Table.from_arrays([pa.array(idx), pa.array(text)], schema=prompts.SCHEMA)
        if config.prompts
        else pa.Table.from_arrays(
            [pa.array(idx), pa.array(text), pa.array(image, pa.binary())], schema=pairs.SCHEMA
        )
    )
    out = io.BytesIO()
    # pictures are compressed already
    pq.write_table(table, out, row_group_size=ROW_GROUP_ROWS, compression="zstd", write_page_checksum=True)
    return out.getvalue()


def _sample(config: MakeTableConfig) -> Iterator[Row]:
    for index in range(config.sample or 0):
        row = sample_row(config.random_seed, index, split=config.split, image_size=config.image_size)
        yield row.idx, row.text, _png(row.image)
    for index in range(config.scenes):
        scene = drawn_scene(config.random_seed, index, config.image_size)
        yield f"scene-{config.random_seed}-{index}", "风景画", _png(scene)


def _png(image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _folder(config: MakeTableConfig) -> Iterator[Row]:
    folder = Path(config.pictures or "")
    if not folder.is_dir():
        raise ValueError(f"--pictures {folder}: no such folder")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)
    if not files:
        raise ValueError(f"--pictures {folder}: no pictures there ({', '.join(PICTURES)})")
    captions = _captions(Path(config.captions)) if config.captions else None
    for file in files:
        name = file.relative_to(folder).as_posix()
        if captions is None:
            beside = file.with_suffix(".txt")
            if not beside.is_file():
                raise ValueError(
                    f"{file}: no caption; write it to {beside.name} beside it, or give --captions FILE"
                )
            text = beside.read_text(encoding="utf-8").strip()
        elif name in captions:
            text = captions[name]
        else:
            raise ValueError(f"{file}: {config.captions} has no caption for {name!r}")
        yield name, text, file.read_bytes()
    if captions and (unused := sorted(set(captions) - {p.relative_to(folder).as_posix() for p in files})):
        raise ValueError(
            f"{config.captions}: {len(unused)} captions have no picture in {folder}, the first is "
            f"{unused[0]!r}"
        )


def _captions(file: Path) -> dict[str, str]:
    """File name relative to the folder -> caption."""
    found: dict[str, str] = {}
    with file.open(encoding="utf-8", newline="\n") as lines:
        rows = (
            lines
            if file.suffix in (".jsonl", ".json")
            else csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        )
        for number, row in enumerate(rows, 1):
            try:
                record = (
                    json.loads(row) if isinstance(row, str) else dict(zip(("file", "text"), row, strict=True))
                )
                name, text = record["file"], record["text"]
            except (ValueError, KeyError) as error:
                raise ValueError(f"{file} line {number}: expected file and text, got {error}") from None
            if name in found:
                raise ValueError(f"{file} line {number}: {name!r} stands twice")
            found[name] = text
    return found
