"""Tables of ours as gallery pages: painted pictures, or codes decoded beside their originals.

Only the rows that are shown are read, decoded and kept, whatever the size of the table.
"""

import base64
import contextlib
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from painter_core.compute.memory import vqgan_most_rows
from painter_core.easynlp.output import COLUMNS, read_cell
from painter_core.errors import Refused, Reject
from painter_core.files.storage import filesystem, redact, write_bytes
from painter_core.flag_checks import check_range, check_seed, refuse_unused
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import encode_image
from painter_core.images.pixels import to_uint8
from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.sample.captions import VALUES
from painter_core.stages.codes_table import open_vqgan
from painter_core.stages.make_gallery.grid import GridEntry, render_grid, settings_of
from painter_core.stages.make_gallery.page import MAX_PICTURES, GalleryEntry, write_gallery
from painter_core.stages.sweeps import painted_by, pictures_a_setting
from painter_core.tables.columns import Columns, Encoding
from painter_core.tables.inputs import find_files
from painter_core.tables.manifest import iter_parts, part_rows
from painter_core.tables.reader import UnitReader
from painter_core.tables.records import read_manifest
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.units import plan_units
from schemas.outputs import NUMBERS, SAMPLE_COLUMN

log = logging.getLogger(__name__)

KINDS = ("outputs", "codes")  # of tables
NUMBER = "row number"  # beside the columns of a row: where it stands in the table
DECODE_ROWS = 64  # codes decoded at a time, fewer of large pictures


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
    encoding: Encoding = "utf-8"
    """Encoding of --originals, if a TSV: utf-8, or gb18030, which reads GBK and GB2312 too."""
    max_entries: int = 500
    """At most this many rows, sampled if there are more; of rows with many pictures fewer: 1,000 pictures."""
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
        of_originals = ("input_schema", "idx_column", "second_sequence")
        if self.originals is None:
            refuse_unused(self, of_originals, "without --originals TABLE")


def make_gallery(config: GalleryConfig, run: Run) -> None:
    """A table -> a page."""
    log.info("%d pictures -> %s", write_page(config), config.outputs)
    run.then(next_step("make_gallery", config.outputs))


def write_page(config: GalleryConfig) -> int:
    """Writes the page and returns the number of rows of the table.

    Raises:
        ValueError: not a finished table of our jobs, or a flag that does not go with it.
        Refused: the page exists.
    """
    fs, path = filesystem(config.outputs)
    if fs.exists(path) and not config.overwrite:
        raise Refused(f"{config.outputs} exists; name another --outputs, or replace it with --overwrite")
    manifest = _read_manifest(config.tables)
    is_codes = manifest["table"] == "codes"
    if config.scores if is_codes else config.originals:
        raise ValueError("--scores goes with an output table, --originals with a codes table")
    rows = sum(part["rows"] for part in manifest["parts"])
    if not is_codes and "sweep" in painted_by(manifest):
        _write_grid(config, manifest, rows)
        return rows
    write_gallery(
        config.outputs,
        _decoded(config, manifest) if is_codes else _painted(config, manifest),
        title="Pictures",
        subtitle=f"{redact(config.tables)}, fingerprint {manifest['fingerprint'][:16]}",
        total=rows,
        seed=config.random_seed,
    )
    return rows


def _read_manifest(tables: str) -> dict[str, Any]:
    """The manifest of an output table or a codes table."""
    directory = RunDirectory(tables)
    fs, path = directory.path()
    if not fs.exists(path):
        raise ValueError(
            f"--tables {redact(tables)}: no table of jobs/generate.py or jobs/precompute_codes.py: "
            f"{redact(directory.url)} does not exist. jobs/inspect_table.py shows pictures of other tables"
        )
    manifest = read_manifest(directory.url)
    if (kind := manifest.get("table")) not in KINDS:
        hint = "; the pictures that it scores go with --tables, and it with --scores" * (kind == "scores")
        raise ValueError(
            f"--tables {redact(tables)}: a table of {kind}, expected {' or '.join(KINDS)}: pictures or codes "
            f"of pictures{hint}"
        )
    return manifest


def _shown_rows(
    config: GalleryConfig, manifest: dict[str, Any], columns: tuple[str, ...], pictures: int, group: int = 1
) -> Iterator[list[dict[str, Any]]]:
    """The rows to show, in the order of the table, part by part.

    Args:
        columns: what is read of them.
        pictures: how many each row has; of many, fewer rows are shown.
        group: rows that are shown together or not at all.
    """
    groups = sum(part["rows"] for part in manifest["parts"]) // group
    count = min(groups, config.max_entries, max(1, MAX_PICTURES // (pictures * group)))
    generator = random.Random(config.random_seed)
    found = np.sort(generator.sample(range(groups), count))
    chosen = (found[:, None] * group + np.arange(group)).ravel()
    directory, first = RunDirectory(config.tables), 0
    for part in manifest["parts"]:
        inside = chosen[(chosen >= first) & (chosen < first + part["rows"])] - first
        first += part["rows"]
        if len(inside):
            table = part_rows(directory, part)
            if missing := [name for name in columns if name not in table.column_names]:
                raise ValueError(
                    f"--tables {redact(config.tables)}: without the column {', '.join(missing)}; it has "
                    f"{', '.join(table.column_names)}. Make it again with --output-schema {','.join(columns)}"
                )
            numbers = (inside + first - part["rows"]).tolist()
            yield [row | {NUMBER: n} for row, n in zip(table.take(inside).to_pylist(), numbers, strict=True)]


def _painted(config: GalleryConfig, manifest: dict[str, Any]) -> Iterator[GalleryEntry]:
    identity = painted_by(manifest)
    scores = _scores(config.scores) if config.scores else {}
    num_pictures = pictures_a_setting(identity)  # of a prompt
    in_a_row = num_pictures if identity.get("easynlp_format") else 1
    told = [name for name in NUMBERS if name != SAMPLE_COLUMN]  # where they are not carried on as text
    for rows in _shown_rows(config, manifest, COLUMNS, in_a_row):
        for row in rows:
            cells = read_cell(row["gen_imgbase64"])
            images = tuple(base64.b64decode(c, validate=True) for c in cells[:MAX_PICTURES])
            found = scores.get(row["idx"], [])
            score = None
            if len(found) == num_pictures:  # else some were not scored, or several rows have this idx
                score = ", ".join(found if len(cells) > 1 else [found[row[NUMBER] % num_pictures]])
            yield GalleryEntry(
                idx=row["idx"],
                caption=row["text"],
                images=images,
                seed=identity.get("seed"),
                sample=row.get("sample"),
                score=score,
                told=tuple((n, f"{row[n]:.4g}") for n in told if isinstance(row.get(n), int | float)),
                pictures=f"{len(images):,} of {len(cells):,}" if len(images) < len(cells) else None,
            )


def _write_grid(config: GalleryConfig, manifest: dict[str, Any], rows: int) -> None:
    """The page of a table of a sweep."""
    identity = painted_by(manifest)
    settings = settings_of(identity, _scores(config.scores) if config.scores else {})
    for setting in settings:
        if setting.score:
            shown = ", ".join(f"{name} {value}" for name, value in setting.facts)
            log.info("%s: %s attributes right", shown, setting.score)
    group = len(settings) * pictures_a_setting(identity)
    page = render_grid(
        _swept(config, manifest, group),
        settings,
        title="Settings",
        subtitle=f"{redact(config.tables)}, fingerprint {manifest['fingerprint'][:16]}",
        total=rows // group,
        seed=config.random_seed,
    )
    write_bytes(*filesystem(config.outputs), page.encode("utf-8"))


def _swept(config: GalleryConfig, manifest: dict[str, Any], group: int) -> Iterator[GridEntry]:
    """Captions with their pictures, `group` rows each."""
    for rows in _shown_rows(config, manifest, COLUMNS, 1, group):
        for start in range(0, len(rows), group):
            mine = rows[start : start + group]
            yield GridEntry(
                idx=mine[0]["idx"],
                caption=mine[0]["text"],
                images=tuple(base64.b64decode(row["gen_imgbase64"], validate=True) for row in mine),
                labels=tuple(f"sample {row['sample']}" if "sample" in row else "" for row in mine),
            )


def _scores(table: str) -> dict[str, list[str]]:
    """By idx, for each of its pictures: how many attributes are right, of how many."""
    if (kind := read_manifest(RunDirectory(table).url).get("table")) != "scores":
        raise ValueError(f"--scores {redact(table)}: a table of {kind}, expected scores of jobs/evaluate.py")
    found: dict[str, list[str]] = defaultdict(list)
    for part in iter_parts(table):
        if missing := [f"read_{name}" for name in VALUES if f"read_{name}" not in part.column_names]:
            raise ValueError(
                f"--scores {redact(table)}: without {', '.join(missing)}, expected the scores of "
                "jobs/evaluate.py --attributes"
            )
        for row in part.to_pylist():
            right = sum(row[f"read_{name}"] == row[f"wanted_{name}"] for name in VALUES)
            found[row["idx"]].append(f"{right}/{len(VALUES)}")
    return found


@torch.inference_mode()
def _decoded(config: GalleryConfig, manifest: dict[str, Any]) -> Iterator[GalleryEntry]:
    model = open_vqgan(RunDirectory(config.tables).url).load_vqgan()
    in_a_row = 2 if config.originals else 1
    shown = _shown_rows(config, manifest, ("idx", "text", "codes"), in_a_row)
    rows = [row for part in shown for row in part]
    originals = _originals(config, {row["idx"] for row in rows}) if config.originals else {}
    step = min(DECODE_ROWS, vqgan_most_rows(model.config, "cpu"))
    for start in range(0, len(rows), step):
        batch = rows[start : start + step]
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
        encoding=config.encoding,
    )
    files = find_files(config.originals)
    units = plan_units(files, columns, micro_batch_size=1, limit=None)
    reader = UnitReader(files=files, columns=columns, stage="gallery", keep_rejected=False)
    found, counts = dict[str, bytes](), Counter[str]()
    for unit in reader.read(units):
        for row in unit.table.to_pylist():
            if row["idx"] in wanted:
                with contextlib.suppress(Reject):  # then it has no codes, and is none that is shown
                    found[row["idx"]] = image_of_cell(row["image"])
                    counts[row["idx"]] += 1
    once = {idx: image for idx, image in found.items() if counts[idx] == 1}
    if missing := len(wanted) - len(once):
        log.warning(
            "--originals %s: no original for %d of %d idx shown (not there, or there several times)",
            redact(config.originals),
            missing,
            len(wanted),
        )
    return once
