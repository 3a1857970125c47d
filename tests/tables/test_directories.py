"""Directories that are tables of other tools: their log says which files count, so they are refused."""

from pathlib import Path

import pytest

from painter_core.tables.inputs import find_files
from tests.support.fake_store import FakeStore
from tests.tables.test_inputs import ROW, names, put

DELTA = ("_delta_log/00000000000000000000.json", "a.parquet", "day=1/b.parquet")
TABLES = {
    "Delta": DELTA,
    "Hudi": (".hoodie/hoodie.properties", "2024/a.parquet"),
    "Spark stream": ("_spark_metadata/0", "a.parquet"),
    "Iceberg": (
        "metadata/v1.metadata.json",
        "metadata/snap-1.avro",
        "data/a.parquet",
        "data/day=1/b.parquet",
    ),
    "Paimon": ("snapshot/LATEST", "manifest/manifest-1", "schema/schema-0", "bucket-0/a.parquet"),
    "Lance": ("_transactions/0.txn", "_versions/1.manifest", "data/a.parquet"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_other_tools_are_refused(kind: str, tmp_path: Path) -> None:
    put(tmp_path, *(f"d/t/{name}" for name in TABLES[kind]), "d/other.tsv")
    for tables in ("d/t", "d", "d/t*", "d/t/**/*.parquet"):
        with pytest.raises(ValueError, match=rf"d/t: (an?|the) .*{kind}.* plain Parquet") as caught:
            find_files(f"{tmp_path}/{tables}")
        assert "which of the files count" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "part"),
    [("Delta", "day=1"), ("Delta", "*.parquet"), ("Delta", "day=1/*.parquet"), ("Delta", "*/*.parquet"),
     ("Iceberg", "data"), ("Iceberg", "data/*.parquet"), ("Iceberg", "data/day=1"), ("Paimon", "bucket-0"),
     ("Hudi", "*/*.parquet")],
)  # fmt: skip
def test_a_part_of_such_a_table_is_refused_too(kind: str, part: str, tmp_path: Path) -> None:
    put(tmp_path, *(f"t/{name}" for name in TABLES[kind]))
    with pytest.raises(ValueError, match=rf"t: an? .*{kind}"):
        find_files(f"{tmp_path}/t/{part}")


def test_directories_with_such_names_alone_are_read(tmp_path: Path) -> None:
    put(tmp_path, "metadata/a.tsv", "data/b.tsv", "snapshot/c.tsv", "schema/d.tsv", "day=1/e.tsv")
    assert len(names(str(tmp_path), tmp_path)) == 5
    assert names(f"{tmp_path}/day=1", tmp_path) == ["day=1/e.tsv"]


def test_a_directory_that_is_still_written_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "d/part-00000.parquet", "d/_temporary/0/part-00001.parquet")
    with pytest.raises(ValueError, match="another job is still writing there, or died"):
        find_files(f"{tmp_path}/d")


def test_in_an_object_store(store: type[FakeStore]) -> None:
    for name in DELTA:
        FakeStore().pipe_file(f"/b/t/{name}", ROW)
    for tables in ("s3://b", "s3://b/t", "s3://b/t/day=1", "s3://b/t/*.parquet"):
        with pytest.raises(ValueError, match="b/t: a Delta table"):
            find_files(tables)
