"""The catalogue of bad inputs, by number: text tables (25-42).

Every input is made here and goes through plan, reader and decoder as functions, between two good rows that
must come out. Where the design decides otherwise than the catalogue, a comment says so.
"""

import gzip
import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.runs.flags import TableFlags
from painter_core.stages.precompute_codes import PrecomputeConfig
from painter_core.tables.inputs import find_files
from painter_core.tables.parquet import parquet_bytes
from painter_core.tables.reader import UnitReader
from painter_core.tables.rejects import describe
from painter_core.tables.units import plan_units
from tests.support.catalogue import (
    CELL,
    GOOD,
    PNG,
    accepted,
    case,
    refused,
    rejected,
    run,
    run_lines,
    table,
    write,
)

CASES: list = []


@case(CASES, 25, "header")
def _(root: Path) -> None:
    header = "idx\ttext\timgbase64"
    log: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = log.append  # type: ignore[method-assign]
    logger = logging.getLogger("painter_core.tables.tsv_head")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    for ends in ("", "\r"):
        found = run(write(root / "t.tsv", table(header + ends, GOOD, GOOD)))
        assert (found.rows_in, len(found.kept)) == (2, 2)
    logger.removeHandler(handler)
    logger.setLevel(level)
    assert [str(root / "t.tsv") + ": the first line is a header"] * 2 == [r.getMessage() for r in log]
    assert run(write(root / "t.tsv", table(GOOD, header, GOOD))).rejects[2]["reason"] == "b64_invalid"


@case(CASES, 26, "quotes")
def _(root: Path) -> None:
    texts = ['"open', 'closed"', '"both"', '"', "'"]
    rows = accepted(run_lines(root, *(f'"{i}\t{t}\t{CELL}' for i, t in enumerate(texts))), 5)
    assert [(row["idx"], row["text"]) for row in rows] == [(f'"{i}', t) for i, t in enumerate(texts)]


@case(CASES, 27, "columns")
def _(root: Path) -> None:
    found = run_lines(root, "1\t红", f"2\t红\t色\t{CELL}", f"3\t红\t{CELL}\t", "4")
    rejected(found, "bad_columns", r"\d columns, expected 3 \(idx, text, imgbase64\)", column="", rows=4)
    assert [found.rejects[n]["idx"] for n in range(2, 6)] == ["1", "2", "3", "4"]
    assert describe(found.rejects[3]).startswith(f"bad_columns: {root / 't.tsv'} line 3, idx '2': 4 columns")


@case(CASES, 28, "carriage-returns")
def _(root: Path) -> None:
    rows = accepted(run_lines(root, f"1\t红\r色\t{CELL}", f"2\t红\r\t{CELL}\r", f"3\t红\t{CELL}\r\r"), 3,
                    text_invisible=2)  # fmt: skip
    assert [row["text"] for row in rows] == [
        "红\r色",
        "红\r",
        "红",
    ]  # a second \r is white space of the base64


@case(CASES, 29, "line-separators")
def _(root: Path) -> None:
    texts = ["a\u2028b", "a\u2029b", "a\u0085b", "a\vb", "a\fb", "a\x1cb"]
    rows = run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(texts)))
    assert [row["text"] for row in rows.kept[1:-1]] == texts


@case(CASES, 30, "byte-order-mark")
def _(root: Path) -> None:
    for header in (b"", b"idx\ttext\timgbase64\n"):
        found = run(write(root / "t.tsv", b"\xef\xbb\xbf" + header + table(GOOD, GOOD)))
        assert [row["idx"] for row in found.kept] == ["好", "好"]


@case(CASES, 31, "other-encodings")
def _(root: Path) -> None:
    lines = "\n".join(f"{i}\t红色连衣裙{i}\t{CELL}" for i in range(20))
    refused(
        lambda: run(write(root / "gbk.tsv", lines.encode("gb18030"))),
        "gbk.tsv",
        "not UTF-8 at byte 2",
        "--encoding gb18030",
    )
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        refused(lambda e=encoding: run(write(root / "u.tsv", lines.encode(e))), "u.tsv", "UTF-16")


@case(CASES, 32, "one-bad-byte")
def _(root: Path) -> None:
    bad = [
        b"1\t\xe7\xba\t" + CELL.encode(),
        b"2\t\xed\xa0\x80\t" + CELL.encode(),
        b"3\ta\xff\t" + CELL.encode(),
    ]
    found = run_lines(root, *bad)
    rejected(found, "text_encoding", r"byte \d+ is 0x", column="text", rows=3)
    assert [found.rejects[n]["idx"] for n in (2, 3, 4)] == ["1", "2", "3"]
    assert run_lines(root, b"\xff1\ta\t" + CELL.encode()).rejects[2]["column"] == "idx"
    # a Parquet string may hold such bytes too
    text = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"a\xff", b"b"]).buffers())
    pq.write_table(
        pa.table({"idx": ["1", "2", "3"], "text": text, "imgbase64": [CELL] * 3}), root / "t.parquet"
    )
    rejected(run(root / "t.parquet"), "text_encoding", r"not UTF-8: b'a\\xff'", column="text")
    image = pa.Array.from_buffers(pa.string(), 3, pa.array([CELL.encode(), b"\xff", CELL.encode()]).buffers())
    pq.write_table(
        pa.table({"idx": ["1", "2", "3"], "text": ["a"] * 3, "imgbase64": image}), root / "t.parquet"
    )
    rejected(run(root / "t.parquet"), "text_encoding", column="imgbase64")


@case(CASES, 33, "invisible-characters")
def _(root: Path) -> None:
    texts = ["a\0b", "a\x1bb", "a\u202eb", "a\u200bb", "a\ufeffb", "a\x7fb"]
    rows = accepted(run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(texts))), 6, text_invisible=6)
    assert [row["text"] for row in rows] == texts


@case(CASES, 34, "long-rows")
def _(root: Path) -> None:
    long = f"1\t{'长' * 10**6}\t{CELL}"
    (row,) = accepted(run_lines(root, long))
    assert len(row["text"]) == 10**6
    found = run_lines(root, b"1\ta\t" + b"A" * 64 * 2**20)
    rejected(found, "row_too_large", "67,108,868 bytes, at most 67,108,864", column="")


@case(CASES, 35, "types-are-not-guessed")
def _(root: Path) -> None:
    cells_ = ["00012", "1e5", "true", "NA", "null", "NaN", "-0", "1,000", "2020-01-01"]
    rows = accepted(
        run_lines(root, *(f"{c}\t{c}\t{CELL}" for c in cells_)), len(cells_), text_formula=1, text_number=1
    )
    assert [(row["idx"], row["text"]) for row in rows] == [(c, c) for c in cells_]


@case(CASES, 36, "types-change-late")
def _(root: Path) -> None:
    rows = accepted(
        run_lines(root, *(f"{i}\t{i}\t{CELL}" for i in range(600)), f"abc\tx\t{CELL}"), 601, text_number=600
    )
    assert rows[-1]["idx"] == "abc"


@case(CASES, 37, "blank-lines")
def _(root: Path) -> None:
    found = run_lines(root, "", "\r", f"1\t\t{CELL}", "")
    assert list(found.rejects) == [4]
    assert (found.rows_in, found.warnings) == (3, {"blank_line": 3})


@case(CASES, 38, "cut-last-line")
def _(root: Path) -> None:
    found = run(write(root / "t.tsv", table(GOOD, GOOD, "1\t红", end=b"")))
    assert found.rejects[3]["reason"] == "truncated_row"
    assert "still being written" in describe(found.rejects[3])
    assert len(run(write(root / "t.tsv", table(GOOD, GOOD, end=b""))).kept) == 2


@case(CASES, 39, "gzip")
def _(root: Path) -> None:
    whole = gzip.compress(table(*[GOOD] * 50))
    assert len(run(write(root / "t.tsv.gz", whole)).kept) == 50
    for cut in (whole[:-4], whole[: len(whole) // 2], whole[:5]):
        refused(lambda d=cut: run(write(root / "cut.tsv.gz", d)), "cut.tsv.gz: damaged or cut gzip")
    broken = bytearray(whole)
    broken[40] ^= 255
    refused(lambda: run(write(root / "flip.tsv.gz", bytes(broken))), "flip.tsv.gz: damaged or cut gzip")
    refused(lambda: run(write(root / "plain.tsv.gz", table(GOOD))), "plain.tsv.gz: damaged or cut gzip")
    refused(
        lambda: run(write(root / "packed.tsv", whole)),
        "packed.tsv: this is compressed by gzip: name it .tsv.gz",
    )
    refused(
        lambda: run(write(root / "t.tsv", parquet_bytes(pa.table({"a": [1]})))),
        "t.tsv: this is a Parquet file",
    )
    refused(
        lambda: run(write(root / "x.tsv", b"PK\x03\x04")), "x.tsv: this is a zip archive or an .xlsx file"
    )


@case(CASES, 40, "changed-file")
def _(root: Path) -> None:
    path = write(root / "t.tsv", table(GOOD, GOOD))
    files = find_files(str(path))
    columns = PrecomputeConfig(table=TableFlags(tables="", outputs="")).input.columns()
    units = plan_units(files, columns, micro_batch_size=16, limit=None)
    write(path, table(GOOD, GOOD, GOOD))
    reader = UnitReader(files=files, columns=columns, stage="x", keep_rejected=False)
    refused(
        lambda: list(reader.read(units)),
        "t.tsv: the file changed after the plan",
        "--overwrite",
    )


@case(CASES, 41, "other-names")
def _(root: Path) -> None:
    for header in ("idx\ttext\timage", "text\tidx\timgbase64", "idx\tcaption\tpicture"):
        path = write(root / "t.tsv", table(header, GOOD))
        refused(
            lambda p=path: run(p), "t.tsv: the first line looks like a header", "expected", "--input-schema"
        )
    pq.write_table(pa.table({"idx": ["1"], "text": ["a"], "picture": [PNG]}), root / "t.parquet")
    refused(
        lambda: run(root / "t.parquet"), "t.parquet: column 'imgbase64'", "'picture'", "--second-sequence"
    )


@case(CASES, 42, "zero-bytes")
def _(root: Path) -> None:
    write(root / "a.tsv", table(GOOD))
    for name in ("b.tsv", "b.parquet"):
        write(root / name, b"")
        refused(lambda: run(root), f"{name}: the file is empty (0 bytes)")
        (root / name).unlink()


@pytest.mark.parametrize("check", CASES)
def test_case(check: Callable[[Path], None], tmp_path: Path) -> None:
    check(tmp_path)
