"""Tables of ours as gallery pages: painted pictures, or codes decoded beside their originals.

Only the rows that are shown are read, decoded and kept, whatever the size of the table.
"""

import base64
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from painter_core.easynlp.output import read_cell
from painter_core.errors import Refused
from painter_core.files.storage import filesystem, redact
from painter_core.flag_checks import check_range, check_seed
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import encode_image
from painter_core.images.pixels import to_uint8
from painter_core.runs.run import Run
from painter_core.sample.captions import VALUES
from painter_core.stages.codes_table import open_vqgan
from painter_core.stages.make_gallery.page import GalleryEntry, write_gallery
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.manifest import iter_parts, part_rows
from painter_core.tables.reader import UnitReader
from painter_core.tables.records import read_manifest
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.units import plan_units

log = logging.getLogger(__name__)

DECODE_ROWS = 64  # codes decoded at a time


@dataclass(frozen=True, kw_only=True)
class GalleryConfig:
    """output table, or codes table -> one HTML page."""

    tables: str
    """A table that jobs/generate.py wrote (as its --outputs), or a codes table."""
    outputs: str
    """The page, X.html."""
    scores: str | None = None
    """With an output table: the scores that jobs/evaluate.py made of it, shown as attributes right of all."""
    originals: str | None = None
    """With a codes table: the pairs table that the codes were made of, shown beside the reconstructions."""
    input_schema: str = "idx:str:1,text:str:1,imgbase64:str:1"
    """Columns of --originals, if a TSV, in order: name:type:length."""
    idx_column: str = "idx"
    """Column of the row's key in --originals, or `row` for row numbers, as when the codes were made."""
    second_sequence: str = "imgbase64"
    """Column of the picture in --originals."""
    max_entries: int = 500
    """At most this many rows, sampled if there are more."""
    random_seed: int = 0
    """Seed of that sample."""
    overwrite: bool = False
    """Replace the page."""

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {"--tables": self.tables, "--outputs": self.outputs}

    def __post_init__(self) -> None:
        check_range("--max-entries", self.max_entries, 1, 500)
        check_seed(self.random_seed)


def make_gallery(config: GalleryConfig, run: Run) -> None:
    """A table -> a page."""
    log.info("%d pictures -> %s", write_page(config), config.outputs)


def write_page(config: GalleryConfig) -> int:
    """Writes the page and returns the number of rows of the table.

    Raises:
        ValueError: not a finished table of ours, or a flag that does not go with it.
        Refused: the page exists.
    """
    fs, path = filesystem(config.outputs)
    if fs.exists(path) and not config.overwrite:
        raise Refused(f"{config.outputs} exists; name another --outputs, or replace it with --overwrite")
    manifest = read_manifest(RunDirectory(config.tables).url)
    is_codes = manifest["table"] == "codes"
    if config.scores if is_codes else config.originals:
        raise ValueError("--scores goes with an output table, --originals with a codes table")
    rows = sum(part["rows"] for part in manifest["parts"])
    shown = f"{redact(config.tables)}, fingerprint {manifest['fingerprint'][:16]}"
    write_gallery(
        config.outputs,
        _decoded(config, manifest) if is_codes else _painted(config, manifest),
        title="Pictures",
        subtitle=shown,
        total=rows,
        max_entries=config.max_entries,
        seed=config.random_seed,
    )
    return rows


def _shown_rows(config: GalleryConfig, manifest: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The rows to show, in the order of the table, part by part."""
    total = sum(part["rows"] for part in manifest["parts"])
    generator = random.Random(config.random_seed)
    chosen = np.sort(generator.sample(range(total), min(total, config.max_entries)))
    directory, first = RunDirectory(config.tables), 0
    for part in manifest["parts"]:
        inside = chosen[(chosen >= first) & (chosen < first + part["rows"])] - first
        first += part["rows"]
        if len(inside):
            yield part_rows(directory, part).take(inside).to_pylist()


def _painted(config: GalleryConfig, manifest: dict[str, Any]) -> Iterator[GalleryEntry]:
    identity = manifest["identity"]
    scores = _scores(config.scores) if config.scores else {}
    num_pictures = identity.get("max_generated_num", 1)  # of a prompt
    for rows in _shown_rows(config, manifest):
        for row in rows:
            images = tuple(base64.b64decode(c, validate=True) for c in read_cell(row["gen_imgbase64"]))
            found = scores.get(row["idx"], [])
            score = None
            if len(found) == num_pictures:  # else some were not scored, or several rows have this idx
                score = ", ".join(found if len(images) > 1 else [found[row.get("sample") or 0]])
            yield GalleryEntry(
                idx=row["idx"],
                caption=row["text"],
                images=images,
                seed=identity.get("seed"),
                sample=row.get("sample"),
                score=score,
            )


def _scores(table: str) -> dict[str, list[str]]:
    """By idx, for each of its pictures: how many attributes are right, of how many."""
    if (kind := read_manifest(table).get("table")) != "scores":
        raise ValueError(f"--scores {redact(table)}: a table of {kind}, expected scores of jobs/evaluate.py")
    found: dict[str, list[str]] = defaultdict(list)
    for part in iter_parts(table):
        if f"read_{next(iter(VALUES))}" not in part.column_names:
            raise ValueError(
                f"--scores {redact(table)}: scores without attributes, made without --attributes"
            )
        for row in part.to_pylist():
            right = sum(row[f"read_{name}"] == row[f"wanted_{name}"] for name in VALUES)
            found[row["idx"]].append(f"{right}/{len(VALUES)}")
    return found


@torch.inference_mode()
def _decoded(config: GalleryConfig, manifest: dict[str, Any]) -> Iterator[GalleryEntry]:
    model = open_vqgan(config.tables).load_vqgan()
    rows = [row for part in _shown_rows(config, manifest) for row in part]
    originals = _originals(config, {row["idx"] for row in rows}) if config.originals else {}
    for start in range(0, len(rows), DECODE_ROWS):
        batch = rows[start : start + DECODE_ROWS]
        codes = torch.from_numpy(np.array([row["codes"] for row in batch], np.int64))
        for row, picture in zip(batch, to_uint8(model.decode(codes)), strict=True):
            images: tuple[bytes, ...] = (encode_image(picture),)
            labels: tuple[str, ...] = ("reconstruction",)
            if row["idx"] in originals:
                images, labels = (originals[row["idx"]], *images), ("original", *labels)
            yield GalleryEntry(idx=row["idx"], caption=row["text"], images=images, labels=labels)


def _originals(config: GalleryConfig, wanted: set[str]) -> dict[str, bytes]:
    """Encoded pictures of a pairs table by idx; none for an idx that several rows have."""
    assert config.originals is not None
    columns = Columns.of_flags(
        config.input_schema,
        idx_column=config.idx_column,
        first_sequence=None,  # captions are those of the codes table
        second_sequence=config.second_sequence,
    )
    files = find_files(config.originals)
    units = plan_units(files, columns, micro_batch_size=1, limit=None)
    reader = UnitReader(files=files, columns=columns, stage="gallery", keep_rejected=False)
    found, counts = dict[str, bytes](), Counter[str]()
    for unit in reader.read(units):
        for row in unit.table.to_pylist():
            if row["idx"] in wanted:
                counts[row["idx"]] += 1
                found[row["idx"]] = image_of_cell(row["image"])
    once = {idx: image for idx, image in found.items() if counts[idx] == 1}
    if missing := len(wanted) - len(once):
        log.warning(
            "--originals %s: no original for %d of %d idx shown (not there, or there several times)",
            redact(config.originals),
            missing,
            len(wanted),
        )
    return once
