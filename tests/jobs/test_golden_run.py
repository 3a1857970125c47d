"""T1: 400 rows in eight files of every kind, through the jobs, without a fault."""

import base64
import gzip
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.codes_table import make_codes
from tests.support.jobs import Jobs
from tests.support.local_run import rows_of

FILES, FILE_ROWS = 8, 50
BROKEN = {7: "img_empty", 160: "b64_invalid", 399: "text_empty"}
# of captions and rejects; the codes of random weights may round differently on another processor, so they are
# compared with those that this one computes without Ray
GOLDEN = "8e7f2abe023b995b15422448cbaab8061e7bbf993df91926e70666801878ff5c"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, write_pairs) -> Path:
    """TSV plain, with a header, of Windows, gzipped; Parquet of four types of column."""
    root = tmp_path_factory.mktemp("golden")
    lines = write_pairs(root / "all.tsv", FILES * FILE_ROWS).read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    rows[7][2], rows[160][2], rows[399][1] = "", "!" + rows[160][2][1:], " "
    directory = root / "pairs"
    directory.mkdir()
    for number in range(FILES):
        write(directory / f"{number}", rows[number * FILE_ROWS : (number + 1) * FILE_ROWS], number)
    return directory


def write(path: Path, rows: list[list[str]], number: int) -> None:
    """One file; its kind is its number."""
    text = "".join("\t".join(row) + "\n" for row in rows)
    if number == 0:
        path.with_suffix(".tsv").write_text(text, "utf-8")
    elif number == 1:
        path.with_suffix(".tsv").write_text("idx\ttext\timgbase64\n" + text, "utf-8")
    elif number == 2:
        path.with_suffix(".tsv").write_bytes(text.replace("\n", "\r\n").encode())
    elif number == 3:
        path.with_suffix(".tsv.gz").write_bytes(gzip.compress(text.encode()))
    else:
        cells: pa.Array = pa.array([row[2] for row in rows])
        if number == 5:
            cells = pa.array([base64.b64decode(row[2]) for row in rows])
        elif number == 6:
            cells = cells.cast(pa.large_string())
        elif number == 7:
            cells = cells.dictionary_encode()
        columns = [pa.array([row[0] for row in rows]), pa.array([row[1] for row in rows]), cells]
        table = pa.table(columns, ["idx", "text", "imgbase64"])
        pq.write_table(table, path.with_suffix(".parquet"), row_group_size=[50, 16, 7, 20][number - 4])


def read(directory: Path) -> list[dict]:
    """Rows of a table's parts, in order."""
    return [row for part in sorted(directory.glob("part-*")) for row in pq.read_table(part).to_pylist()]


def check(out: Path, rows_in: int, rejected: int) -> None:
    """The sums agree, and _SUCCESS was written last."""
    manifest = json.loads((out / "manifest.json").read_text())
    counts = tuple(manifest[name] for name in ("rows_in", "rows_out", "rows_rejected"))
    assert counts == (rows_in, rows_in - rejected, rejected)
    assert len(read(out)) == rows_in - rejected
    assert sum(json.loads(p.read_text())["rows_in"] for p in out.glob("_run/commits/*.json")) == rows_in
    times = {p.name: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    assert times.pop("summary.json") >= times["_SUCCESS"] == max(times.values())


@pytest.mark.slow
def test_every_row_comes_out_once(
    jobs: Jobs, tables: Path, tiny_vqgan: Path, model: Path, tmp_path: Path
) -> None:
    codes, pictures = tmp_path / "codes", tmp_path / "pictures"
    jobs.run("precompute_codes", "--tables", tables, "--vqgan", tiny_vqgan, "--outputs", codes)
    check(codes, FILES * FILE_ROWS, len(BROKEN))
    found, rejects = read(codes), read(codes / "rejects")
    assert {row["idx"]: row["reason"] for row in rejects} == {f"r{i}": why for i, why in BROKEN.items()}
    assert [row["idx"] for row in found] == [f"r{i}" for i in range(FILES * FILE_ROWS) if i not in BROKEN]
    lines = [f"{row['idx']} {row['text']}" for row in found]
    lines += [f"{Path(row['file']).name} {row['row']} {row['idx']} {row['reason']}" for row in rejects]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == GOLDEN
    assert rows_of(codes) == rows_of(make_codes(tables, tiny_vqgan, tmp_path / "here"))
    jobs.run("generate", "--tables", codes, "--checkpoint-dir", model, "--outputs", pictures)
    check(pictures, len(found), 0)
    assert [(row["idx"], row["text"]) for row in read(pictures)] == [
        (row["idx"], row["text"]) for row in found
    ]
