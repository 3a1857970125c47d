"""What the tests of the catalogue of bad inputs share: a table run through plan, reader and decoder."""

import base64
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from painter_core.runs.flags import TableFlags
from painter_core.stages.precompute_codes import PrecomputeConfig
from painter_core.tables.inputs import find_files
from painter_core.tables.parquet import parquet_bytes
from painter_core.tables.reader import UnitReader
from painter_core.tables.rejects import describe
from painter_core.tables.units import plan_units
from schemas.rejects import REASONS

SIDE = 32
Case = Callable[[Path], None]


def case(cases: list, number: int, label: str) -> Callable[[Case], Case]:
    """Adds the check of a case to a list of pytest parameters."""

    def register(check: Case) -> Case:
        cases.append(pytest.param(check, id=f"{number:03d}-{label}"))
        return check

    return register


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came out of a table."""

    kept: list[dict]
    """idx, text, pixels of each row."""
    rejects: dict[int, dict]
    """Lines of the rejects table by row number."""
    warnings: Counter[str]
    rows_in: int


def run(tables: Path, *more: Path, in_child: bool | None = None) -> Found:
    """Plan, read and decode, as jobs/precompute_codes.py does."""
    names = ",".join(map(str, (tables, *more)))
    config = PrecomputeConfig(table=TableFlags(tables=names, outputs="unused"))
    files, columns = find_files(names), config.input.columns()
    units = plan_units(files, columns, micro_batch_size=16, limit=None)
    reader = UnitReader(files=files, columns=columns, stage="precompute", keep_rejected=False)
    decode = dataclasses.replace(config.decoder(SIDE), in_child=in_child)
    kept, rejected, warnings, rows_in = [], {}, Counter(), 0
    for row in reader.read(units):
        warnings.update(row.warnings)
        decoded = decode(row)
        rows = decoded.table.to_pylist()
        pixels = np.frombuffer(decoded.payload["pixels"], np.uint8).reshape(-1, SIDE, SIDE, 3)
        kept += [line | {"pixels": p} for line, p in zip(rows, pixels, strict=True)]
        rejected |= {line["row"]: line for line in decoded.rejects.to_pylist()}
        rows_in += decoded.rows_in
    assert rows_in == len(kept) + len(rejected)
    return Found(kept=kept, rejects=rejected, warnings=warnings, rows_in=rows_in)


def encoded(picture: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """A picture as a file."""
    out = io.BytesIO()
    picture.save(out, image_format, **options)
    return out.getvalue()


def plain(colour: object, mode: str = "RGB", size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    return Image.new(mode, size, colour)


def b64(image: bytes) -> str:
    return base64.b64encode(image).decode()


NOISE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (60, 80, 3), np.uint8))
PNG, JPEG = encoded(plain((200, 30, 60))), encoded(NOISE, "JPEG")
CELL = b64(PNG)
GOOD, LAST = f"好\t红色\t{CELL}", f"末\t红色\t{CELL}"


def table(*lines: str | bytes, end: bytes = b"\n") -> bytes:
    """Lines as a TSV."""
    return b"\n".join(line.encode() if isinstance(line, str) else line for line in lines) + end


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def run_lines(root: Path, *lines: str | bytes) -> Found:
    """Lines of a TSV between two good ones: the first of them is physical line 2."""
    return run(write(root / "t.tsv", table(GOOD, *lines, LAST)))


def run_cells(root: Path, *cells: str | bytes | None, text: str = "红色") -> Found:
    """Picture cells between two good ones, in a Parquet file."""
    kind = pa.large_binary() if any(isinstance(c, bytes) for c in cells) else pa.large_string()
    good = PNG if pa.types.is_large_binary(kind) else CELL
    values = pa.array([good, *cells, good], kind)
    pairs = {"idx": [str(i) for i in range(len(values))], "text": [text] * len(values), "imgbase64": values}
    pq.write_table(pa.table(pairs), root / "t.parquet", use_dictionary=False)
    return run(root / "t.parquet")


def accepted(found: Found, rows: int = 1, **warnings: int) -> list[dict]:
    """Nothing was rejected; the rows between the good ones."""
    assert not found.rejects, [describe(line) for line in found.rejects.values()]
    assert len(found.kept) == rows + 2
    assert found.warnings == warnings
    return found.kept[1:-1]


def rejected(found: Found, reason: str, detail: str = "", column: str = "imgbase64", rows: int = 1) -> None:
    """The rows between the good ones, and no others, were set aside."""
    assert sorted(found.rejects) == list(range(2, 2 + rows))
    assert len(found.kept) == 2
    for line in found.rejects.values():
        assert line["reason"] == reason
        assert re.search(detail, line["detail"]), line["detail"]
        assert line["column"] == column
        assert line["stage"] == "precompute"
        assert describe(line).startswith(f"{reason}: {line['file']} ")
        assert REASONS[reason] in describe(line)


def colour(row: dict) -> list[int]:
    """Of a plain picture."""
    assert (row["pixels"] == row["pixels"][0, 0]).all()
    return row["pixels"][0, 0].tolist()


def refused(check: Callable[[], object], *words: str) -> None:
    """A ValueError before any row is out, with these words in its message."""
    with pytest.raises(ValueError, match=r".") as caught:
        check()
    assert all(word in str(caught.value) for word in words), str(caught.value)


NOISE_B64 = b64(JPEG)
URLSAFE = base64.urlsafe_b64encode(JPEG).decode()
assert "+" in NOISE_B64
assert "/" in NOISE_B64


def write_pairs(path: Path, rows: int = 3, **changes: object) -> Path:
    """A Parquet pairs table."""
    columns = {"idx": [str(i) for i in range(rows)], "text": ["红"] * rows, "imgbase64": [CELL] * rows}
    return write(path, parquet_bytes(pa.table(columns | changes)))
