"""Planning: every row is in one unit; units fit the micro-batch, the limit, row groups and sizes of rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.tables import units as planner
from painter_core.tables.inputs import find_files
from painter_core.tables.units import group_units, plan_units
from tests.support.reading import COLUMNS, planned, read, table, write


@pytest.mark.parametrize("micro_batch_size", [1, 7, 16, 100, 128])
@pytest.mark.parametrize("rows", [50, 3000])
def test_units_are_multiples_of_the_micro_batch(micro_batch_size: int, rows: int, tmp_path: Path) -> None:
    name = write(tmp_path / "t.tsv", b"\n".join(table(rows)))
    files, units = planned(name, micro_batch_size=micro_batch_size)
    assert [u.number for u in units] == list(range(len(units)))
    assert sum(u.num_rows for u in units) == rows
    assert all(u.num_rows % micro_batch_size == 0 for u in units[:-1])
    assert planned(name, micro_batch_size=micro_batch_size) == (files, units)


@pytest.mark.parametrize(("micro_batch_size", "rows"), [(250, 496), (255, 496), (500, 496), (999, 992)])
def test_odd_micro_batches_do_not_make_large_units(micro_batch_size: int, rows: int, tmp_path: Path) -> None:
    """Whole marks of 16 lines, just below whole micro-batches: 512 rows at most, or one micro-batch."""
    name = write(tmp_path / "t.tsv", b"\n".join(table(40_000)))
    units = planned(name, micro_batch_size=micro_batch_size)[1]
    assert {u.num_rows for u in units[:-1]} == {rows}


@pytest.mark.parametrize(
    ("pictures", "side", "rows"),
    [(1, 64, 512), (1, 256, 512), (8, 64, 64), (16, 256, 32), (1, 512, 336), (1, 1024, 80), (4096, 256, 16)],
)
def test_units_follow_what_is_made_of_a_row(pictures: int, side: int, rows: int, tmp_path: Path) -> None:
    """At most 512 pictures and 256 MiB of pixels, if that is a micro-batch; so a cell stays small."""
    name = write(tmp_path / "t.tsv", b"\n".join(table(40_000)))
    units = plan_units(
        find_files(name), COLUMNS, micro_batch_size=16, limit=None, pictures_a_row=pictures,
        picture_bytes=3 * side**2,
    )  # fmt: skip
    assert {u.num_rows for u in units[:-1]} == {rows}
    assert sum(u.num_rows for u in units) == 40_000


def test_small_tables_are_cut_finer(tmp_path: Path) -> None:
    small = planned(write(tmp_path / "s.tsv", b"\n".join(table(500))))[1]
    large = planned(write(tmp_path / "l.tsv", b"\n".join(table(20_000))))[1]
    assert {u.num_rows for u in small[:-1]} == {16}
    assert {u.num_rows for u in large[:-1]} == {512}


@pytest.mark.parametrize(
    ("rows", "pictures", "expected"),
    [
        (64, 1, 16),
        (255, 1, 16),
        (256, 1, 32),
        (511, 1, 32),
        (512, 1, 64),
        (10**6, 1, 64),
        (64, 8, 16),
        (128, 8, 64),
    ],
)
def test_calls_are_large_in_tables_that_give_enough_units(rows: int, pictures: int, expected: int) -> None:
    assert planner.call_rows(rows, 64, 16, pictures) == expected
    assert planner.call_rows(rows, 16, 16, pictures) == 16
    assert planner.call_rows(rows, 4, 16, pictures) == 4


def test_a_unit_of_rows_with_several_pictures_is_whole_micro_batches(tmp_path: Path) -> None:
    name = write(tmp_path / "t.tsv", b"\n".join(table(200)))
    units = plan_units(find_files(name), COLUMNS, micro_batch_size=64, limit=None, pictures_a_row=8)
    assert {u.num_rows for u in units[:-1]} == {16}  # 128 pictures, two calls; not 64 rows, which are eight


def test_units_of_large_rows_have_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"%d\t%s" % (i, b"x" * (1000 if 200 <= i < 300 else 10)) for i in range(1000)]
    monkeypatch.setattr(planner, "UNIT_BYTES", 40_000)
    monkeypatch.setattr(planner, "UNITS_OF_A_SMALL_TABLE", 1)
    files, units = planned(write(tmp_path / "t.tsv", b"\n".join(lines)))
    assert all(u.stop - u.start <= 40_000 for u in units)
    assert all(u.num_rows % 16 == 0 for u in units[:-1])
    assert [row["row"] for unit in read(files, units) for row in unit["table"]] == list(range(1, 1001))
    # a row above the limit makes a unit of 16 rows; of large rows there are no multiples of the micro-batch
    monkeypatch.setattr(planner, "UNIT_BYTES", 900)
    few = planned(str(tmp_path / "t.tsv"), micro_batch_size=64)[1]
    assert {u.num_rows for u in few if u.stop - u.start > 900} == {16}
    assert sum(u.num_rows for u in few) == 1000


@pytest.mark.parametrize("limit", [1, 16, 17, 100, 299, 300, 301, 10_000])
@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_limit_takes_the_first_rows(limit: int, suffix: str, tmp_path: Path) -> None:
    for part in range(3):
        rows = [(f"{part}-{i}", f"文{i}") for i in range(100)]
        path = tmp_path / f"{part}.{suffix}"
        if suffix == "tsv":
            write(path, "".join(f"{i}\t{t}\n" for i, t in rows).encode())
        else:
            pq.write_table(
                pa.table(dict(zip(("idx", "text"), zip(*rows, strict=True), strict=True))), path, 30
            )
    files, units = planned(str(tmp_path), limit=limit)
    found = [row["idx"] for unit in read(files, units) for row in unit["table"]]
    assert found == [f"{part}-{i}" for part in range(3) for i in range(100)][:limit]


@pytest.mark.parametrize("row_group_size", [1, 10, 64, 1000, 5000])
@pytest.mark.parametrize("version", ["1.0", "2.6"])
def test_parquet_row_groups_are_sliced(row_group_size: int, version: str, tmp_path: Path) -> None:
    rows = 1500 if row_group_size > 10 else 70
    pairs = {
        "idx": [str(i) for i in range(rows)],
        "other": [0] * rows,
        "text": [f"词{i % 7}" for i in range(rows)],
    }
    pq.write_table(
        pa.table(pairs), tmp_path / "t.parquet", row_group_size, version=version, use_dictionary=["text"]
    )
    files, units = planned(str(tmp_path / "t.parquet"), micro_batch_size=48)
    found = [row for unit in read(files, units) for row in unit["table"]]
    assert [(r["row"], r["idx"], r["text"]) for r in found] == [
        (i + 1, str(i), f"词{i % 7}") for i in range(rows)
    ]
    assert all(row["byte_offset"] is None for row in found)
    # a resumed run reads what is left, from any unit on
    assert len(group_units(units)) == -(-rows // row_group_size)
    left = units[1::2]
    again = [row["idx"] for unit in read(files, left) for row in unit["table"]]
    assert again == [str(u.first_row - 1 + i) for u in left for i in range(u.num_rows)]


def test_a_gz_is_read_by_one_task_in_several_units(tmp_path: Path) -> None:
    files, units = planned(write(tmp_path / "t.tsv.gz", b"\n".join(table(300))))
    assert len(units) > 5
    assert len(group_units(units)) == 1
    left = units[1::3]
    rows = [row["row"] for unit in read(files, left) for row in unit["table"]]
    assert rows == [u.first_row + i for u in left for i in range(u.num_rows)]


def test_tsv_units_are_read_apart(tmp_path: Path) -> None:
    _, units = planned(write(tmp_path / "t.tsv", b"\n".join(table(300))))
    assert [len(group["units"]) for group in group_units(units)] == [1] * len(units)


def test_units_are_large_where_a_gpu_paints(tmp_path: Path) -> None:
    files = find_files(str(write(tmp_path / "t.tsv", b"\n".join(table(40_000)))))
    made = {"micro_batch_size": 256, "limit": None, "picture_bytes": 3 * 256**2}
    assert plan_units(files, COLUMNS, **made)[0].num_rows == 512
    assert plan_units(files, COLUMNS, large=True, **made)[0].num_rows == 2048
    assert plan_units(files, COLUMNS, large=True, **made | {"limit": 4096})[0].num_rows == 512
