"""The pictures of a pairs table as one memory-mapped array on a node, uint8 (n, S, S, 3).

Named by the input files and the preprocessing, in painter_core.files.cache.
"""

import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np

from painter_core.errors import Reject, Stop
from painter_core.files.arrays import create_array, shorten_array
from painter_core.files.cache import build_once
from painter_core.files.storage import redact, sha256
from painter_core.images.decode import Alpha, Resize
from painter_core.images.isolate import CellDecoder, decoder
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import InputFile, find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.rejects import describe_warnings
from painter_core.tables.units import plan_units

log = logging.getLogger(__name__)


def open_pictures(
    table: str, columns: Columns, *, image_size: int, resize: Resize, alpha: Alpha, max_reject_fraction: float
) -> np.ndarray:
    """The decoded pictures; builds the node's cache if it is not there.

    Raises:
        ValueError: no table.
        Stop: more pictures than the given share cannot be used.
    """
    files = find_files(table)
    key = sha256(repr((files, columns, image_size, resize, alpha)).encode())
    directory = build_once(
        f"pictures-{key[:32]}", lambda new: _build(new, files, columns, image_size, resize, alpha)
    )
    counts = json.loads((directory / "counts.json").read_text())
    rows, rejected = counts["rows_in"], sum(counts["rejected"].values())
    log.info(
        "%s: %d pictures, %d rows rejected %s", redact(table), rows - rejected, rejected, counts["rejected"]
    )
    for line in describe_warnings(counts.get("warnings", {})):  # an older cache has none
        log.warning("%s: kept, but noticed: %s", redact(table), line)
    if rejected > max_reject_fraction * rows or rejected == rows:
        raise Stop(
            3,
            f"--tables {redact(table)}: {rejected} of {rows} rows cannot be used "
            f"({counts['rejected']}), more than "
            f"--max-reject-fraction {max_reject_fraction:g}; jobs/precompute_codes.py lists them, row by row",
        )
    return np.load(directory / "pictures.npy", mmap_mode="r")


def _build(
    directory: Path, files: list[InputFile], columns: Columns, size: int, resize: Resize, alpha: Alpha
) -> None:
    units = plan_units(files, columns, micro_batch_size=1, limit=None)
    reader = UnitReader(files=files, columns=columns, stage="train_vqgan", keep_rejected=False)
    total = sum(u.num_rows for u in units)
    pictures = create_array(directory / "pictures.npy", np.uint8, (total, size, size, 3))
    kept = rows_in = 0
    rejected: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    # in a process of its own from the start: this one trains, and is not started again for a unit
    with decoder(CellDecoder(image_size=size, resize=resize, alpha=alpha), in_child=True) as decode:
        for unit in reader.read(units):
            rows_in += unit.rows_in
            notes.update(unit.warnings)
            rejected.update(unit.rejects.column("reason").to_pylist())
            for row in unit.table.to_pylist():
                try:
                    pictures[kept] = decode(row["image"], notes, row=row["row"])
                    kept += 1
                except Reject as error:
                    rejected[error.reason] += 1
    pictures.flush()
    shorten_array(directory / "pictures.npy", kept)
    counts = {"rows_in": rows_in, "rejected": dict(rejected), "warnings": dict(notes)}
    (directory / "counts.json").write_text(json.dumps(counts))
