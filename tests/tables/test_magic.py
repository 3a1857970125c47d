"""Files that are no tables are known by their first bytes, before any work; the user is told what to do."""

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.magic import foreign_content
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import plan_units

PROMPTS = Columns(schema=("idx", "text"))
ROWS = [(str(i), f"红色{i}") for i in range(20)]
TABLE = pa.table({"idx": [i for i, _ in ROWS], "text": [t for _, t in ROWS]})
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def plan(tables: object, columns: Columns = PROMPTS) -> None:
    plan_units(find_files(str(tables)), columns, micro_batch_size=16, limit=None)


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("000.txt")
        info.size = 6
        archive.addfile(info, io.BytesIO("红色".encode()))
    return out.getvalue()


def of(write: object) -> bytes:
    out = io.BytesIO()
    write(out)  # type: ignore[operator]
    return out.getvalue()


def stream(out: io.BytesIO) -> None:
    with pa.ipc.new_stream(out, TABLE.schema) as writer:
        writer.write_table(TABLE)


JSONL = "".join(json.dumps({"idx": i, "text": t}, ensure_ascii=False) + "\n" for i, t in ROWS).encode()
PARQUET = of(lambda out: pq.write_table(TABLE, out))
FOREIGN = {
    "tar": (tar(), "a tar archive: jobs/make_table.py --source"),
    "feather": (of(lambda out: pyarrow.feather.write_feather(TABLE, out)), "Arrow IPC or Feather"),
    "feather-v1": (b"FEA1\0\0\0\0" + bytes(100), "a Feather file"),
    "arrow-stream": (of(stream), "an Arrow stream"),
    "orc": (of(lambda out: pyarrow.orc.write_table(TABLE, out)), "an ORC file"),
    "avro": (b"Obj\x01\x04\x14avro.codec\x08null", "an Avro file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    "jsonl": (JSONL, "JSON lines"),
    "jsonl-bom": (b"\xef\xbb\xbf" + JSONL, "JSON lines"),
    "jsonl-arrays": (b'["1", "a"]\n["2", "b"]\n', "JSON lines"),
    "jsonl-long": (b'{"imgbase64": "' + b"A" * 2_000_000 + b'"}\n', "JSON lines"),
    "json": (json.dumps([{"idx": "1", "text": "a"}], indent=1).encode(), "a JSON document"),
    "web-page": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "a web page"),
    "xml": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "XML"),
    "lfs": (LFS, "a Git LFS pointer, not the file itself: run `git lfs pull`"),
    "annex": (b"/annex/objects/SHA256E-s3--abc.tsv\n", "a git-annex pointer"),
    "bzip2": (bz2.compress(JSONL), "compressed by bzip2"),
    "xz": (lzma.compress(JSONL), "compressed by xz"),
    "sqlite": (b"SQLite format 3\0" + bytes(100), "an SQLite data base"),
    "pickle": (pickle.dumps(ROWS), "a pickle"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "an .xls file"),
    "npy": (of(lambda out: np.save(out, np.zeros(3))), "a NumPy array"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a picture: jobs/make_table.py"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["x.tsv", "x.parquet", "x.tsv.gz", "x.dat", "packed.tsv.gz"])
def test_known_by_content(kind: str, name: str, tmp_path: Path) -> None:
    data, what = FOREIGN[kind]
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name == "packed.tsv.gz" else data)
    # also among good files, which find_files does not open
    (tmp_path / "a.tsv").write_text("1\t红\n")
    for tables in (path, f"{tmp_path}/a.tsv,{path}", tmp_path):
        if tables == tmp_path and name == "x.dat":
            continue
        with pytest.raises(ValueError, match=rf"/{name}: this is ") as caught:
            plan(tables)
        assert what in str(caught.value)


def test_the_first_file_is_looked_into_when_files_are_found(tmp_path: Path) -> None:
    """So that it is known before Ray is started."""
    (tmp_path / "x.tar").write_bytes(tar())
    with pytest.raises(ValueError, match=r"x\.tar: this is a tar archive"):
        find_files(f"{tmp_path}/x.tar")


def test_the_advice_works(tmp_path: Path) -> None:
    """What is said of JSON lines, Feather, streams and ORC, done with the file."""
    for kind in ("jsonl", "feather", "arrow-stream", "orc"):
        data, _ = FOREIGN[kind]
        source, target = tmp_path / f"{kind}.tsv", tmp_path / f"{kind}.parquet"
        source.write_bytes(data)
        code = foreign_content(data).partition("`")[2].rpartition("`")[0]
        code = code.replace("FILE", repr(str(source))).replace("'x.parquet'", repr(str(target)))
        exec(code, {})
        assert pq.read_table(target).to_pylist() == TABLE.to_pylist()
        plan(target)


@pytest.mark.parametrize(("separator", "suffix"), [(",", "csv"), (";", "tsv"), ("|", "txt")])
def test_other_separators(separator: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([("idx", "text"), *ROWS])
    expected = rf"x\.{suffix}: 1 columns in the first row, expected 2 .*separated by '\{separator}'"
    with pytest.raises(ValueError, match=expected):
        plan(path)


def test_a_file_without_the_columns_is_refused_and_one_with_damaged_rows_is_not(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("torch\nray\npyarrow\n")
    (tmp_path / "a.tsv").write_text("1\t红\n")
    with pytest.raises(
        ValueError, match=r"requirements\.txt: 1 columns .*If it is no table, name the tables"
    ):
        plan(tmp_path)
    (tmp_path / "requirements.txt").write_text("1\n2\n3\t红\n")
    plan(tmp_path)
    (tmp_path / "requirements.txt").write_text("1")  # one row: it is set aside, as any damaged one
    plan(tmp_path)


BINARY = bytes(range(256)) * 20


def test_binary_data_is_not_sent_to_iconv(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(b"\x10\x80" + BINARY)
    with pytest.raises(ValueError, match=r"x\.tsv: .*binary data and no text") as caught:
        plan(tmp_path / "x.tsv")
    assert "iconv" not in str(caught.value)


@pytest.mark.parametrize(
    "idx",
    ["PAR1001", "PAR1", "ORC1", "ORC", "ARROW1", "FEA1", "Obj1", "BZh9", "PK1", "Rar!", "GIF8", "{1}", "[1",
     "%PDF-1", "<html5>", "SQLite", "version", "ustar"],
)  # fmt: skip
def test_a_key_is_not_taken_for_a_format(idx: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text(f"{idx}\t红\n{idx}2\t蓝\x1b\n", encoding="utf-8")
    files = find_files(str(path))
    units = plan_units(files, PROMPTS, micro_batch_size=16, limit=None)
    (row,) = UnitReader(files=files, columns=PROMPTS, stage="x", keep_rejected=False).read(units)
    assert row.table["idx"].to_pylist() == [idx, f"{idx}2"]


def test_a_parquet_file_by_another_name_is_told_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(PARQUET)
    with pytest.raises(ValueError, match=r"x\.tsv: this is a Parquet file: name it \.parquet"):
        plan(tmp_path / "x.tsv")
