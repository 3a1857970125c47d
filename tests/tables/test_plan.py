"""Planning and reading: every row of the input is in exactly one unit, and comes out as it stands there."""

import gzip
import random
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from painter_core.tables import reader as reader_module
from painter_core.tables import row_checks, tsv
from painter_core.tables import units as planner
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import InputFile, check_unchanged, find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.tsv import split_lines
from painter_core.tables.units import Unit, group_units, plan_units
from schemas.rejects import REASONS

COLUMNS = Columns(schema=("idx", "text"))


def write(path: Path, data: bytes) -> str:
    """Writes a table, and returns its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def planned(
    tables: str, columns: Columns = COLUMNS, micro_batch_size: int = 16, limit: int | None = None
) -> tuple[list[InputFile], list[Unit]]:
    """Files and units."""
    files = find_files(tables)
    return files, plan_units(files, columns, micro_batch_size=micro_batch_size, limit=limit)


def read(files: list[InputFile], units: list[Unit], columns: Columns = COLUMNS) -> list[dict]:
    """What the reader yields for all units, tables as lists."""
    reader = UnitReader(files=files, columns=columns, stage="test", keep_rejected=False)
    found = [
        vars(row) | {"table": row.table.to_pylist(), "rejects": row.rejects.to_pylist()}
        for row in reader.read(units)
    ]
    assert [row["unit"] for row in found] == [u.number for u in units]
    return found


def reference(data: bytes) -> tuple[dict[int, tuple[str, str]], set[int]]:
    """Ten lines that read a TSV of idx, text: good rows and the numbers of the others, by physical line."""
    good, bad = {}, set()
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line or (number == 1 and line == b"idx\ttext"):
            continue
        try:
            idx, text = line.decode().split("\t")
            row_checks.check_idx(idx)
            row_checks.check_text(text)
            good[number] = (idx, text)
        except ValueError:
            bad.add(number)
    return good, bad


def check(path: Path, data: bytes, micro_batch_size: int = 16) -> None:
    """Plans and reads `data`, and compares with the reference reader."""
    name = write(path, data)
    files, units = planned(name, micro_batch_size=micro_batch_size)
    found = read(files, units)
    good, bad = reference(data)
    rows = [row for unit in found for row in unit["table"]]
    rejects = [row for unit in found for row in unit["rejects"]]
    assert {row["row"]: (row["idx"], row["text"]) for row in rows} == good
    assert {row["row"] for row in rejects} == bad
    assert len(rows) == len(good)
    assert len(rejects) == len(bad)
    assert sum(unit["rows_in"] for unit in found) == len(good) + len(bad)
    for row in rows + rejects:
        line = data[row["byte_offset"] :].split(b"\n", 1)[0].removesuffix(b"\r")
        assert row["reason" if "reason" in row else "text"]
        assert line.split(b"\t")[0].decode("utf-8", "replace") == (row["idx"] or "")
        assert data[: row["byte_offset"]].count(b"\n") == row["row"] - 1
    assert all("reason" not in row or row["reason"] in REASONS for row in rejects)
    for before, after in pairwise(units):
        assert (before.stop, before.first_row + before.num_rows) == (after.start, after.first_row)
    # physical lines, header and rows: nothing is left over at either end
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if units:
        assert units[-1].stop == len(data)
        assert units[-1].first_row + units[-1].num_rows - 1 == lines


def table(rows: int, seed: int = 0) -> list[bytes]:
    """Lines of different lengths."""
    rng = random.Random(seed)
    return [f"{i}\t{'红色' * rng.randint(1, 40)}{i}".encode() for i in range(rows)]


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 31, 32, 33, 511, 512, 513, 1100])
@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize("header", [b"", b"idx\ttext\n"])
def test_every_line_is_in_one_unit(rows: int, end: bytes, header: bytes, tmp_path: Path) -> None:
    check(tmp_path / "t.tsv", header + b"\n".join(table(rows)) + end)


SHAPES = {
    "crlf": b"".join(line + b"\r\n" for line in table(100)),
    "mixed_ends": b"".join(line + (b"\r\n" if i % 3 else b"\n") for i, line in enumerate(table(100))),
    "blank_lines": b"\n\n" + b"\n\n".join(table(50)) + b"\n\r\n\n",
    "bom": b"\xef\xbb\xbf" + b"\n".join(table(40)),
    "bom_and_header": b"\xef\xbb\xbfidx\ttext\r\n" + b"\n".join(table(40)),
    "quotes": b'0\t"open\n1\t"closed"\n2\ta "b" c\n"3"\t"\n',
    "line_separators": "0\ta\u2028b\n1\ta\u0085b\n2\ta\vb\fc\n".encode(),
    "lone_cr": b"0\ta\rb\n1\tc\r\r\n2\t\rd\n",
    "columns": b"0\n1\ta\tb\n\t\n2\ta\n\tb\n3\t",
    "no_numbers": b"00012\ttrue\nNA\tnull\n1e5\tNaN\n",
    "one_line": b"0\ta",
    "only_newline": b"\n",
    "only_header": b"idx\ttext\n",
    "header_without_end": b"idx\ttext",
    "only_bom": b"\xef\xbb\xbf",
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz"])
def test_shapes_of_a_tsv(name: str, suffix: str, tmp_path: Path) -> None:
    check(tmp_path / f"t.{suffix}", SHAPES[name])


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz"])
def test_blocks_of_any_size_give_the_same(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"\n".join(table(300, seed=1))
    expected = planned(write(tmp_path / f"t.{suffix}", data))[1]
    for size in (16, 100, 4096):
        monkeypatch.setattr(planner, "SCAN_BYTES", max(size, 100))
        monkeypatch.setattr(reader_module, "BLOCK_BYTES", size)
        assert planned(str(tmp_path / f"t.{suffix}"))[1] == expected
        check(tmp_path / f"t.{suffix}", data)


_CELL = st.one_of(
    st.text(max_size=8).map(lambda s: s.encode("utf-8", "surrogatepass")),
    st.binary(max_size=8),
    st.sampled_from([b"", b"\r", '"', "\u2028", b"\xff", "\ufeff", b"idx", b"text", b"=1"]).map(
        lambda c: c if isinstance(c, bytes) else c.encode()
    ),
)
_LINE = st.lists(_CELL, min_size=1, max_size=3).map(b"\t".join)


@settings(max_examples=120, deadline=None)
@given(
    lines=st.lists(_LINE, max_size=60),
    bom=st.booleans(),
    end=st.sampled_from([b"\n", b"\r\n", b""]),
    repeat=st.integers(1, 8),
)
def test_t7_random_lines_equal_the_reference_reader(
    lines: list[bytes], bom: bool, end: bytes, repeat: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # 40 sound lines first, or the whole file could pass for another encoding or for a foreign header
    body = b"\n".join([*table(40), *(lines * repeat)]) + end
    check(tmp_path_factory.mktemp("t7") / "t.tsv", b"\xef\xbb\xbf" * bom + body)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(min_size=1, max_size=400))
def test_t7_random_bytes_are_read_or_refused_with_the_file_name(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t7") / "t.tsv"
    try:
        files, units = planned(write(path, data))
    except ValueError as error:
        if str(path) in str(error):
            return
        raise
    found = read(files, units)
    assert sum(u["rows_in"] for u in found) == sum(len(u["table"]) + len(u["rejects"]) for u in found)


@pytest.mark.parametrize("micro_batch_size", [1, 7, 16, 100, 128, 600])
@pytest.mark.parametrize("rows", [50, 3000])
def test_units_are_multiples_of_the_micro_batch(micro_batch_size: int, rows: int, tmp_path: Path) -> None:
    name = write(tmp_path / "t.tsv", b"\n".join(table(rows)))
    files, units = planned(name, micro_batch_size=micro_batch_size)
    assert [u.number for u in units] == list(range(len(units)))
    assert sum(u.num_rows for u in units) == rows
    assert all(u.num_rows % micro_batch_size == 0 for u in units[:-1])
    assert planned(name, micro_batch_size=micro_batch_size) == (files, units)


def test_small_tables_are_cut_finer(tmp_path: Path) -> None:
    small = planned(write(tmp_path / "s.tsv", b"\n".join(table(500))))[1]
    large = planned(write(tmp_path / "l.tsv", b"\n".join(table(20_000))))[1]
    assert {u.num_rows for u in small[:-1]} == {16}
    assert {u.num_rows for u in large[:-1]} == {512}


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


def test_split_lines_keeps_little_of_a_huge_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsv, "MAX_ROW_BYTES", 10)
    blocks = [b"ab\ncdefgh", b"ijklmnop", b"qrst", b"u\nv", b"\n\nw"]
    found = list(split_lines(iter(blocks)))
    assert [(start, size, ended) for start, size, _, ended in found] == [
        (0, 2, True), (3, 19, True), (23, 1, True), (25, 0, True), (26, 1, False)
    ]  # fmt: skip
    assert [line for _, _, line, _ in found] == [b"ab", b"cdefghijklmnop", b"v", b"", b"w"]


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_a_file_that_changed_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{suffix}"
    for rows in (50, 60):
        pairs = [(str(i), "词" * i) for i in range(1, rows)]
        if suffix == "tsv":
            write(path, "".join(f"{i}\t{t}\n" for i, t in pairs).encode())
        else:
            pq.write_table(pa.table({"idx": [i for i, _ in pairs], "text": [t for _, t in pairs]}), path)
        if rows == 50:
            files, units = planned(str(path))
            read(files, units)
    with pytest.raises(ValueError, match=rf"t\.{suffix}: the file changed after the plan was made"):
        read(files, units)
    path.unlink()
    with pytest.raises(ValueError, match=rf"t\.{suffix}: cannot be read"):
        check_unchanged(files[0])


def test_warnings_are_counted(tmp_path: Path) -> None:
    rows = ["1\t=SUM(A1)", "", "1\t零\u200b宽", "2\t正常", "\r", "3\t@x\u202e"]
    found = read(*planned(write(tmp_path / "t.tsv", "\n".join(rows).encode())))
    assert [unit["warnings"] for unit in found] == [
        {"blank_line": 2, "idx_repeated": 1, "text_formula": 2, "text_invisible": 2}
    ]
