"""Which files, which columns: `--tables`, `--input-schema`, footers, manifests."""

import json
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.files.storage import (
    filesystem,
    is_local,
    join,
    read_json,
    redact,
    sha256,
    write_bytes,
    write_json,
)
from painter_core.tables.columns import Columns, parse_input_schema
from painter_core.tables.inputs import InputFile, find_files
from painter_core.tables.parquet import column_cells, parquet_columns
from painter_core.tables.records import read_manifest, seal
from painter_core.tables.units import plan_units

PAIRS = Columns(schema=("idx", "text", "imgbase64"), image="imgbase64")
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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:se/cret@bucket/x.tsv", "s3://bucket/x.tsv"),
        ("s3://user@bucket/x", "s3://bucket/x"),
        ("s3://bucket/x?versionId=1&sig=a/b", "s3://bucket/x"),
        ("s3://bucket/what?.tsv", "s3://bucket/what?.tsv"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("/data/a?b=c@d", "/data/a?b=c@d"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_local_urls() -> None:
    assert is_local("/a://b")
    assert is_local("FILE:///a")
    assert not is_local("s3://a")
    assert filesystem("file:///tmp/a b")[1] == "/tmp/a b"


def test_written_files_are_whole_or_absent(tmp_path: Path) -> None:
    fs, path = filesystem(str(tmp_path / "new/dir/a.json"))
    write_json(fs, path, {"名": "\udcff", "b": 1})
    assert read_json(fs, path) == {"名": "\udcff", "b": 1}
    with pytest.raises(TypeError):
        write_bytes(fs, path, "no bytes")  # type: ignore[arg-type]
    assert os.listdir(tmp_path / "new/dir") == ["a.json"]
    assert read_json(fs, path)["b"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("idx:str:1,text:str:1,imgbase64:str:1", ("idx", "text", "imgbase64")),
        ("idx:int:1, text:str:1 ,score:float:1", ("idx", "text", "score")),
        ("idx,text", ("idx", "text")),
        ("序号:str:1,标题:str:1", ("序号", "标题")),
    ],
)
def test_input_schema(text: str, expected: tuple[str, ...]) -> None:
    assert parse_input_schema(text) == expected


@pytest.mark.parametrize(
    "text", ["", "idx:str", "idx:bytes:1", ":str:1", "idx,", "a:str:1,a:str:1", "a:str:1:2"]
)
def test_input_schema_errors(text: str) -> None:
    with pytest.raises(ValueError, match="--input-schema"):
        parse_input_schema(text)


@pytest.mark.parametrize("extra", [("row",), ("file",), ("image",), ("text",)])
def test_appended_columns_do_not_hide_ours(extra: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="--append-cols"):
        Columns(schema=("idx", "caption"), text="caption", image="imgbase64", extra=extra)


def test_appended_columns_may_be_read_ones() -> None:
    columns = Columns(schema=("idx", "caption", "price"), text="caption", extra=("price", "caption"))
    assert columns.read == ("idx", "caption", "price")
    assert columns.named == {"idx": "idx", "text": "caption", "price": "price", "caption": "caption"}


FILE = InputFile(path="/d/t.parquet", kind="parquet", size_bytes=1, version="")
HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def schema(idx: pa.DataType, text: pa.DataType, image: pa.DataType, name: str = "imgbase64") -> pa.Schema:
    return pa.schema([("idx", idx), ("text", text), (name, image), ("score", pa.float64())])


@pytest.mark.parametrize("idx", [pa.string(), pa.large_string(), pa.int64(), pa.uint8(), pa.string_view()])
@pytest.mark.parametrize("text", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("image", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), HF_IMAGE])
def test_accepted_types(idx: pa.DataType, text: pa.DataType, image: pa.DataType) -> None:
    for name in ("imgbase64", "image"):
        found = parquet_columns(FILE, schema(idx, text, image, name), PAIRS)
        assert found == {"idx": "idx", "text": "text", "image": name}


@pytest.mark.parametrize(
    ("wrong", "column"),
    [
        (schema(pa.float64(), pa.string(), pa.binary()), "idx"),
        (schema(pa.string(), pa.list_(pa.string()), pa.binary()), "text"),
        (schema(pa.string(), pa.binary(), pa.binary()), "text"),
        (schema(pa.string(), pa.string(), pa.int64()), "imgbase64"),
        (schema(pa.string(), pa.string(), pa.struct([("path", pa.string())])), "imgbase64"),
        (schema(pa.string(), pa.string(), pa.binary(), "picture"), "imgbase64"),
        (pa.schema([("idx", pa.string()), ("imgbase64", pa.binary())]), "text"),
        (pa.schema([("idx", pa.string())] * 2 + [("text", pa.string()), ("imgbase64", pa.binary())]), "idx"),
    ],
)
def test_other_types_and_names_are_errors(wrong: pa.Schema, column: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^/d/t\.parquet: column '{column}': (expected once|type .* is not)"
    ):
        parquet_columns(FILE, wrong, PAIRS)


def test_cells_are_strings_bytes_or_none(tmp_path: Path) -> None:
    images = [{"bytes": b"\xff\xd8", "path": None}, None, {"bytes": None, "path": "a.jpg"}]
    text = pa.array(["一", None, "一"]).dictionary_encode()
    broken = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", None]).buffers())
    table = pa.table(
        {
            "i": pa.array([7, None, -1]),
            "t": text,
            "h": pa.array(images, HF_IMAGE),
            "b": broken,
            "v": ["a", "b", "c"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    read = pq.read_table(tmp_path / "t.parquet")
    assert column_cells(read["i"]) == ["7", None, "-1"]
    assert column_cells(read["t"]) == ["一", None, "一"]
    assert column_cells(read["h"]) == [b"\xff\xd8", None, None]
    assert column_cells(read["b"]) == ["a", b"\xff", None]
    assert column_cells(read["v"].cast(pa.string_view())) == ["a", "b", "c"]


def test_columns_to_be_read_must_be_in_the_schema_of_a_tsv(tmp_path: Path) -> None:
    put(tmp_path, "a.tsv")
    columns = Columns(schema=("idx", "text"), text="caption")
    with pytest.raises(ValueError, match=r"a\.tsv: columns \['caption'\] are to be read, but --input-schema"):
        plan_units(find_files(str(tmp_path)), columns, micro_batch_size=1, limit=None)


def test_join() -> None:
    assert join("/a/", "b", "c") == "/a/b/c"
