"""The catalogue of bad inputs, by number: Parquet and files (43-52).

Every input is made here and goes through plan, reader and decoder as functions, between two good rows that
must come out. Where the design decides otherwise than the catalogue, a comment says so.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from painter_core.runs.flags import TableFlags
from painter_core.stages.precompute_codes import PrecomputeConfig
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import plan_units
from tests.support.catalogue import (
    CELL,
    GOOD,
    PNG,
    accepted,
    case,
    encoded,
    refused,
    run,
    table,
    write,
    write_pairs,
)

CASES: list = []


@case(CASES, 43, "parquet-cut")
def _(root: Path) -> None:
    data = write_pairs(root / "good.parquet").read_bytes()
    for cut in (data[:-1], data[: len(data) // 2], data[:3], b"PAR1", table(GOOD)):
        write(root / "cut.parquet", cut)
        refused(
            lambda: run(root / "good.parquet", root / "cut.parquet"), "cut.parquet: not a whole Parquet file"
        )


@case(CASES, 44, "parquet-flip")
def _(root: Path) -> None:
    rng = np.random.RandomState(0)
    cells_ = [encoded(Image.fromarray(rng.randint(0, 256, (16, 16, 3), np.uint8)), "BMP") for _ in range(3)]
    data = bytearray(write_pairs(root / "t.parquet", imgbase64=cells_).read_bytes())
    data[data.index(cells_[1][60:80]) + 5] ^= 1
    refused(lambda: run(write(root / "t.parquet", bytes(data))), "t.parquet row group 0: damaged Parquet")


@case(CASES, 45, "types-differ")
def _(root: Path) -> None:
    write_pairs(root / "1.parquet", idx=pa.array([7, 8, 9]))
    write_pairs(root / "2.parquet", text=pa.array(["词"] * 3).dictionary_encode())
    write_pairs(root / "3.parquet", idx=pa.array(["a", "b", "c"], pa.large_string()))
    found = run(root)  # every column is read as string, so nothing need be merged
    assert [row["idx"] for row in found.kept] == ["7", "8", "9", "0", "1", "2", "a", "b", "c"]
    write_pairs(root / "4.parquet", idx=pa.array([0.5, 1.5, 2.5]))
    refused(lambda: run(root), "4.parquet: column 'idx': type double is not accepted, only string or integer")


@case(CASES, 46, "column-missing")
def _(root: Path) -> None:
    write_pairs(root / "1.parquet")
    pq.write_table(pa.table({"idx": ["1"], "imgbase64": [CELL]}), root / "2.parquet")
    refused(
        lambda: run(root), "2.parquet: column 'text': expected once, found 0 times in ['idx', 'imgbase64']"
    )


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@case(CASES, 47, "image-types")
def _(root: Path) -> None:
    missing = pa.array([{"bytes": PNG, "path": None}, {"bytes": None, "path": "a.png"}, None], IMAGE)
    found = run(write_pairs(root / "1.parquet", imgbase64=missing))
    assert {row: line["reason"] for row, line in found.rejects.items()} == {2: "img_empty", 3: "img_empty"}
    mixed = pa.array([PNG, CELL.encode(), PNG])  # a binary column may hold base64 too
    for images in (mixed, mixed.cast(pa.large_binary()), pa.array([CELL] * 3).dictionary_encode()):
        accepted(run(write_pairs(root / "2.parquet", imgbase64=images)))
    image = pa.table({"idx": ["1"], "text": ["a"], "image": [PNG]})  # the other name of the column
    pq.write_table(image, root / "4.parquet")
    assert len(run(root / "4.parquet").kept) == 1


@case(CASES, 48, "large-columns")
def _(root: Path) -> None:
    # 2 GiB cannot be tried here: picture columns have 64-bit offsets, and a unit of large rows has fewer rows
    for changes in ({}, {"imgbase64": pa.array([PNG] * 3)}):
        write_pairs(root / "t.parquet", **changes)
        files = find_files(str(root / "t.parquet"))
        columns = PrecomputeConfig(table=TableFlags(tables="", outputs="")).input.columns()
        units = plan_units(files, columns, micro_batch_size=16, limit=None)
        (row,) = UnitReader(files=files, columns=columns, stage="x", keep_rejected=False).read(units)
        kind = row.table.schema.field("image").type
        assert pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)


@case(CASES, 49, "pickled-extension")
def _(root: Path) -> None:
    payload = b"cos\nsystem\n(S'touch " + str(root / "ran").encode() + b"'\ntR."
    extension = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}
    field = pa.field("text", pa.binary(), metadata=extension)
    schema = pa.schema([("idx", pa.string()), field, ("imgbase64", pa.string())])
    arrays = [pa.array(["1"]), pa.array([payload]), pa.array([CELL])]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), root / "t.parquet")
    refused(
        lambda: run(root / "t.parquet"),
        "t.parquet: column 'text': the extension type ray.data.arrow_pickled_object is not accepted",
        "plain string",
    )
    nested = pa.field("more", pa.struct([pa.field("x", pa.binary(), metadata=extension)]))
    write_pairs(root / "t.parquet", rows=1, more=pa.array([{"x": payload}], nested.type))
    assert len(run(root / "t.parquet").kept) == 1  # a column that is not read is not held to the list
    assert not (root / "ran").exists()


@case(CASES, 50, "stray-files")
def _(root: Path) -> None:
    for name in (
        "a.tsv",
        "sub/b.tsv",
        "_tmp/c.tsv",
        ".d.tsv",
        "e.tsv.tmp",
        "_SUCCESS",
        "readme.md",
        "_run.tsv",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        write(root / name, table(GOOD))
    assert [Path(f.path).name for f in find_files(str(root))] == ["a.tsv", "b.tsv"]


@case(CASES, 51, "nothing-there")
def _(root: Path) -> None:
    (root / "empty").mkdir()
    for name in ("empty", "missing.tsv", "*.tsv"):
        refused(lambda n=name: run(root / n), "--tables", name, "no such file")


@case(CASES, 52, "names")
def _(root: Path) -> None:
    for name in ("a b", "中文", "a#b", "a%20b", "a[1]", "a{1}", "a*b", "a?b", "a+b=c"):
        (root / name).mkdir()
        write(root / name / f"{name}.tsv", table(GOOD))
        assert len(run(root / name / f"{name}.tsv").kept) == len(run(root / name).kept) == 1


@pytest.mark.parametrize("check", CASES)
def test_case(check: Callable[[Path], None], tmp_path: Path) -> None:
    check(tmp_path)
