"""Which files: `--tables` with its names, globs, URLs and manifests."""

import json
import os
from pathlib import Path

import fsspec
import pytest

from painter_core.files.storage import sha256
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.records import read_manifest, seal
from painter_core.tables.units import plan_units

PROMPTS = Columns(schema=("idx", "text"))
ROW = b"1\ta\n"


def put(root: Path, *names: str) -> None:
    """Small files, with their directories."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(ROW)


def names(tables: str, root: Path) -> list[str]:
    """What find_files finds, relative to `root`."""
    return [os.path.relpath(f.path, root) for f in find_files(tables)]


def finished(root: Path, *parts: str) -> None:
    """A table of ours."""
    put(root, *parts, "rejects/part-000000.parquet", "_run/plan.json")
    put(root, *(f"_run/commits/{i:06d}.json" for i in range(len(parts))))
    manifest = {"parts": [{"name": name, "bytes": len(ROW), "sha256": sha256(ROW)} for name in parts]}
    (root / "manifest.json").write_text(json.dumps(seal(manifest)))


@pytest.mark.parametrize(
    "name",
    ["a b.tsv", "中文.tsv", "a#b.tsv", "a?b.tsv", "a%20b.tsv", "a[1].tsv", "a{1}.tsv", "a*b.tsv",
     "x" * 200 + ".tsv", "a::b.tsv", "a://b.tsv", "~.tsv", "a=b.tsv"],
)  # fmt: skip
def test_any_name_is_taken_as_it_stands(name: str, tmp_path: Path) -> None:
    put(tmp_path, f"data/{name}", "data/a1b.tsv")
    path = tmp_path / "data" / name
    (file,) = find_files(str(path))
    assert (file.path, file.kind, file.size_bytes) == (str(path), "tsv", len(ROW))
    assert [u.num_rows for u in plan_units([file], PROMPTS, micro_batch_size=16, limit=None)] == [1]
    assert len(find_files(str(tmp_path / "data"))) == 2


def test_kinds_and_versions(tmp_path: Path) -> None:
    put(tmp_path, "a.tsv", "a.tsv.gz", "a.txt", "a.parquet", "a.csv")
    kinds = [
        find_files(str(tmp_path / n))[0].kind for n in ("a.tsv", "a.tsv.gz", "a.txt", "a.parquet", "a.csv")
    ]
    assert kinds == ["tsv", "tsv.gz", "tsv", "parquet", "tsv"]
    (before,) = find_files(str(tmp_path / "a.tsv"))
    os.utime(tmp_path / "a.tsv", (1, 1))
    (after,) = find_files(str(tmp_path / "a.tsv"))
    assert before.version != after.version


def test_comma_lists_keep_their_order(tmp_path: Path) -> None:
    put(tmp_path, "b.tsv", "a.tsv", "d/2.tsv", "d/1.tsv")
    tables = f"{tmp_path}/b.tsv, {tmp_path}/a.tsv,{tmp_path}/d/"
    assert names(tables, tmp_path) == ["b.tsv", "a.tsv", "d/1.tsv", "d/2.tsv"]


def test_directories_leave_out_what_is_no_table(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.tsv",
        "sub/b.parquet",
        "_tmp/c.tsv",
        ".d.tsv",
        "_e.tsv",
        "sub/.x/f.tsv",
        "_SUCCESS",
        "g.json",
    )
    assert names(str(tmp_path), tmp_path) == ["a.tsv", "sub/b.parquet"]


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "d/a.tsv")
    monkeypatch.chdir(tmp_path)
    assert [f.path for f in find_files("d/../d/a.tsv")] == [str(tmp_path / "d/a.tsv")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("d/*.tsv", ["d/1.tsv", "d/2.tsv"]),
        ("d/*", ["d/1.tsv", "d/2.tsv", "d/3.parquet"]),
        ("d/[12].tsv", ["d/1.tsv", "d/2.tsv"]),
        ("d/?.parquet", ["d/3.parquet"]),
        ("d/*.csv", ["d/4.csv"]),
        ("**/*.tsv", ["d/1.tsv", "d/2.tsv", "d/sub/5.tsv", "e/6.tsv"]),
        ("*", ["d/1.tsv", "d/2.tsv", "d/3.parquet", "d/sub/5.tsv", "e/6.tsv"]),
        ("[e]", ["e/6.tsv"]),
    ],
)
def test_globs(pattern: str, expected: list[str], tmp_path: Path) -> None:
    put(tmp_path, "d/2.tsv", "d/1.tsv", "d/3.parquet", "d/4.csv", "d/_x.tsv", "d/.y.tsv", "d/sub/5.tsv",
        "e/6.tsv", "_tmp/7.tsv")  # fmt: skip
    assert names(f"{tmp_path}/{pattern}", tmp_path) == expected


@pytest.mark.parametrize("tables", ["missing.tsv", "missing/", "*.tsv", "empty", "a.tsv,,b.tsv", ""])
def test_nothing_found_is_an_error_with_the_name(tables: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path, "a.tsv", "b.tsv") if "," in tables else None
    with pytest.raises(ValueError, match=r"--tables"):
        find_files(",".join(f"{tmp_path}/{t}" if t else "" for t in tables.split(",")))


def test_empty_files_and_repeated_names_are_errors(tmp_path: Path) -> None:
    put(tmp_path, "a.tsv")
    (tmp_path / "b.tsv").touch()
    with pytest.raises(ValueError, match=r"b\.tsv: the file is empty"):
        find_files(str(tmp_path))
    (tmp_path / "b.tsv").unlink()
    with pytest.raises(ValueError, match=r"a\.tsv is named twice"):
        find_files(f"{tmp_path}/a.tsv,{tmp_path}/./")


def test_file_names_outside_utf8_are_errors(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.tsv", "wb") as file:
        file.write(ROW)
    with pytest.raises(ValueError, match="the file name is not UTF-8"):
        find_files(str(tmp_path))


def test_a_table_of_ours_is_its_manifest(tmp_path: Path) -> None:
    table = tmp_path / "t"
    finished(table, "part-000000.parquet", "part-000001.parquet")
    put(table, "part-000002.parquet")  # left by a killed writer
    parts = ["part-000000.parquet", "part-000001.parquet"]
    assert names(str(table), table) == parts
    # as it is inside another directory, or among others
    put(tmp_path, "more/x.tsv")
    assert sorted(names(str(tmp_path), table)) == ["../more/x.tsv", *parts]
    assert sorted(names(f"{tmp_path}/*", table)) == ["../more/x.tsv", *parts]
    (table / "part-000001.parquet").write_bytes(ROW + b"x")
    with pytest.raises(ValueError, match=r"part-000001\.parquet: 5 bytes, but manifest\.json says 4"):
        find_files(str(table))
    (table / "part-000001.parquet").unlink()
    with pytest.raises(ValueError, match=r"part-000001\.parquet: cannot be read"):
        find_files(str(table))


def test_an_unfinished_table_of_ours_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "t/part-000000.parquet", "t/_run/plan.json")
    for tables in ("t", "t/", "t/*.parquet", "", "*"):
        with pytest.raises(ValueError, match=r"no manifest\.json, so the table is not finished"):
            find_files(f"{tmp_path}/{tables}")
    (tmp_path / "t/manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json: not JSON"):
        read_manifest(str(tmp_path / "t"))


def test_memory_urls() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("/t/b 中.tsv", "/t/a.tsv", "/t/_x/c.tsv"):
        memory.pipe_file(name, ROW * 40)
    try:
        files = find_files("memory://t")
        assert [f.path for f in files] == ["memory:///t/a.tsv", "memory:///t/b 中.tsv"]
        assert [f.path for f in find_files("memory://t/b*.tsv")] == ["memory:///t/b 中.tsv"]
        assert find_files("memory://t/a.tsv")[0] == files[0]
        units = plan_units(files, PROMPTS, micro_batch_size=16, limit=None)
        assert sum(u.num_rows for u in units) == 80
    finally:
        memory.rm("/t", recursive=True)


@pytest.mark.parametrize(
    "url", ["http://x/a.tsv", "https://k:s@x/a", "ftp://x", "simplecache::s3://b", "python::x"]
)
def test_other_schemes_are_refused_without_their_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="is not accepted") as caught:
        find_files(url)
    assert "k:s" not in str(caught.value)


def test_a_missing_package_is_named() -> None:
    """adlfs is none of the packages that the project installs."""
    with pytest.raises(
        ValueError, match=r"^abfs://box/a: a package for abfs:// is missing .*adlfs"
    ) as caught:
        find_files("abfs://key:secret@box/a")
    assert "secret" not in str(caught.value)
