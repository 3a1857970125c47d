"""Tables of ours as gallery pages: painted pictures, or codes decoded beside their originals."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from painter_core.easynlp_format import read_cell
from painter_core.gallery import GalleryEntry, write_gallery
from painter_core.images import encode_image, image_of_cell
from painter_core.pixels import to_uint8
from painter_core.stages.codes_cache import open_vqgan
from painter_core.stages.commit import Refused, RunDirectory
from painter_core.stages.manifest import iter_parts
from painter_core.stages.plan import group_units, plan_units
from painter_core.stages.readers import UnitReader, unpack
from painter_core.stages.records import read_manifest
from painter_core.stages.tables import Columns, find_files
from painter_core.storage import filesystem, redact

DECODE_ROWS = 64  # codes decoded at a time


@dataclass(frozen=True, kw_only=True)
class GalleryConfig:
    """output table, or codes table -> one HTML page."""

    tables: str
    """A table that jobs/generate.py wrote (as its --outputs), or a codes table."""
    outputs: str
    """The page, X.html."""
    originals: str | None = None
    """With a codes table: the pairs table that the codes were made of, shown beside the reconstructions."""
    max_entries: int = 500
    """At most this many rows, sampled if there are more."""
    random_seed: int = 0
    """Seed of that sample."""
    overwrite: bool = False
    """Replace the page."""


def write_page(config: GalleryConfig) -> int:
    """Writes the page and returns the number of rows of the table.

    Raises:
        ValueError: not a finished table of ours.
        Refused: the page exists.
    """
    fs, path = filesystem(config.outputs)
    if fs.exists(path) and not config.overwrite:
        raise Refused(f"{config.outputs} exists; name another --outputs, or replace it with --overwrite")
    manifest = read_manifest(RunDirectory(config.tables).url)
    rows = sum(part["rows"] for part in manifest["parts"])
    entries = (
        _decoded(config)
        if manifest["table"] == "codes"
        else _painted(config, manifest["identity"].get("seed"))
    )
    shown = f"{redact(config.tables)}, fingerprint {manifest['fingerprint'][:16]}"
    write_gallery(
        config.outputs,
        entries,
        title="Pictures",
        subtitle=shown,
        total=rows,
        max_entries=config.max_entries,
        seed=config.random_seed,
    )
    return rows


def _painted(config: GalleryConfig, seed: int | None) -> Iterator[GalleryEntry]:
    for table in iter_parts(config.tables):
        for row in table.to_pylist():
            yield GalleryEntry(
                idx=row["idx"],
                caption=row["text"],
                images=tuple(base64.b64decode(c, validate=True) for c in read_cell(row["gen_imgbase64"])),
                seed=seed,
                sample=row.get("sample"),
            )


@torch.inference_mode()
def _decoded(config: GalleryConfig) -> Iterator[GalleryEntry]:
    model = open_vqgan(config.tables).load_vqgan()
    originals = dict(_originals(config.originals)) if config.originals else {}
    for table in iter_parts(config.tables):
        for start in range(0, len(table), DECODE_ROWS):
            rows = table.slice(start, DECODE_ROWS).to_pylist()
            codes = torch.from_numpy(np.array([row["codes"] for row in rows], np.int64))
            for row, picture in zip(rows, to_uint8(model.decode(codes)), strict=True):
                images: tuple[bytes, ...] = (encode_image(picture),)
                labels: tuple[str, ...] = ("reconstruction",)
                if row["idx"] in originals:
                    images, labels = (originals[row["idx"]], *images), ("original", *labels)
                yield GalleryEntry(idx=row["idx"], caption=row["text"], images=images, labels=labels)


def _originals(pairs: str) -> Iterator[tuple[str, bytes]]:
    """idx and encoded picture of every row of a pairs table that can be used."""
    columns = Columns(schema=("idx", "text", "imgbase64"), image="imgbase64")
    files = find_files(pairs)
    units = plan_units(files, columns, micro_batch_size=1, limit=None)
    reader = UnitReader(files=files, columns=columns, stage="gallery", keep_rejected=False)
    for group in group_units(units):
        for unit in reader({"units": [vars(u) for u in group]}):
            for row in unpack(unit["table"]).to_pylist():
                yield row["idx"], image_of_cell(row["image"])
