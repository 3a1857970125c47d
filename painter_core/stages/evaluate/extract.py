"""The rows of a finished scores table, column by column: vectors in files of this machine, the rest here.

One pass over the parts, in their order; each part's sha256 is compared. Vectors are memory-mapped (n, width),
so that what is reduced from them needs no more memory than it touches.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from painter_core.evaluation.score import Rows
from painter_core.files.arrays import create_array
from painter_core.files.storage import redact
from painter_core.tables.manifest import part_rows
from painter_core.tables.records import read_manifest
from painter_core.tables.run_directory import RunDirectory

MOST_SIZES = 5  # that are told apart in a report


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """All pictures of a table, n of them, in the order of its parts."""

    vectors: dict[str, np.ndarray]
    """float32 (n, width), on the disk."""
    plain: pa.Table
    """All other columns."""
    part: np.ndarray
    """int64 (n,): the part that a picture stands in, which is its unit's number."""
    rows: Rows

    def number(self, name: str) -> np.ndarray:
        """A column of numbers as float64."""
        return self.plain.column(name).to_numpy().astype(np.float64)

    def strings(self, name: str) -> list[str]:
        """A column of strings."""
        return self.plain.column(name).to_pylist()


def extract(outputs: str, path: str, folder: Path) -> Extracted:
    """Reads a finished scores table.

    Args:
        outputs: the table.
        path: of what it was made from, for the report.
        folder: an empty directory for the vectors.

    Raises:
        ValueError: a part is missing or damaged.
    """
    directory = RunDirectory(outputs)
    manifest = read_manifest(directory.url)
    n = sum(part["rows"] for part in manifest["parts"])
    vectors: dict[str, np.ndarray] = {}
    plain, part_of, start = [], [], 0
    for number, part in enumerate(manifest["parts"]):
        table = part_rows(directory, part)
        for name in table.column_names:
            kind = table.schema.field(name).type
            if pa.types.is_fixed_size_list(kind):
                if name not in vectors:
                    vectors[name] = create_array(folder / f"{name}.npy", np.float32, (n, kind.list_size))
                rows = table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
                vectors[name][start : start + len(table)] = rows.reshape(-1, kind.list_size)
                table = table.drop_columns([name])
        plain.append(table)
        part_of.append(np.full(len(table), number))
        start += len(table)
    whole = pa.concat_tables(plain)
    return Extracted(
        vectors=vectors, plain=whole, part=np.concatenate(part_of), rows=_rows(whole, manifest, redact(path))
    )


def _rows(plain: pa.Table, manifest: dict, path: str) -> Rows:
    sizes = zip(*(plain.column(name).to_pylist() for name in ("width", "height")), strict=True)
    shown = _most([f"{w}x{h}" for w, h in sizes if w is not None])
    rest = list(shown)[MOST_SIZES:]
    other = {"other": sum(shown.pop(name) for name in rest)} if rest else {}
    return Rows(
        path=path,
        rows_in=manifest["rows_in"],
        rows_rejected=manifest["rows_rejected"],
        rejected=manifest["rejected"],
        pictures=len(plain),
        formats=_most([name for name in plain.column("format").to_pylist() if name]),
        sizes=shown | other,
    )


def _most(names: list[str]) -> dict[str, int]:
    """Counts, the largest first, equal ones by name."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
