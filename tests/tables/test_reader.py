"""Reading: every row of the input comes out once, as it stands there, whatever the file looks like."""

import json
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
from painter_core.tables.inputs import check_unchanged
from painter_core.tables.tsv import split_lines
from schemas.rejects import REASONS
from tests.support.reading import planned, read, table, write


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
    assert [json.loads(unit["warnings"]) for unit in found] == [
        {"blank_line": 2, "idx_repeated": 1, "text_formula": 2, "text_invisible": 2}
    ]
