"""Every file of a directory is read once, or refused, or counted in the log with its reason."""

import logging
import os
from pathlib import Path

import fsspec
import pytest

from painter_core.files.storage import sha256
from painter_core.tables.inputs import check_unchanged, find_files
from tests.support.fake_store import FakeStore
from tests.support.unprivileged import open_path, unprivileged  # noqa: F401  a fixture
from tests.tables.test_inputs import ROW, finished, names, put


@pytest.fixture
def passed(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def link(path: Path, target: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def test_links_to_directories_and_files_are_followed(tmp_path: Path) -> None:
    put(tmp_path, "pool/1.tsv", "pool/sub/2.tsv", "far/3.tsv", "d/4.tsv")
    link(tmp_path / "d/shard", tmp_path / "pool")
    link(tmp_path / "d/3.tsv", tmp_path / "far/3.tsv")
    expected = ["d/3.tsv", "d/4.tsv", "d/shard/1.tsv", "d/shard/sub/2.tsv"]
    assert names(f"{tmp_path}/d", tmp_path) == expected
    assert names(f"{tmp_path}/d/**/*.tsv", tmp_path) == expected
    assert names(f"{tmp_path}/d/*/*.tsv", tmp_path) == ["d/shard/1.tsv"]
    link(tmp_path / "e", tmp_path / "d")
    assert len(find_files(f"{tmp_path}/e")) == 4


def test_a_file_by_two_names_is_one_file(tmp_path: Path, passed: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "d/b.tsv", "d/sub/c.tsv")
    link(tmp_path / "d/a_link.tsv", "b.tsv")
    link(tmp_path / "d/a_dir", "sub")
    os.link(tmp_path / "d/b.tsv", tmp_path / "d/sub/hard.tsv")
    for tables in ("d", "d/*.tsv,d/sub/c.tsv", "d/**/*.tsv"):
        found = names(",".join(f"{tmp_path}/{t}" for t in tables.split(",")), tmp_path)
        assert found == ["d/b.tsv", "d/sub/c.tsv"], tables
    assert "3 the same by another name" in passed.text
    for one, other in (("a_link.tsv", "b.tsv"), ("sub/hard.tsv", "b.tsv"), ("a_dir/c.tsv", "sub/c.tsv")):
        with pytest.raises(ValueError, match=r"b\.tsv is named twice|c\.tsv is named twice") as caught:
            find_files(f"{tmp_path}/d/{one},{tmp_path}/d/{other}")
        assert f"{tmp_path}/d/{one} is the same file" in str(caught.value)


def test_links_to_parents_end(tmp_path: Path, passed: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "d/a.tsv", "d/sub/b.tsv")
    for number in range(3):
        link(tmp_path / f"d/loop{number}", tmp_path / "d")
        link(tmp_path / f"d/sub/up{number}", "..")
    assert names(f"{tmp_path}/d", tmp_path) == ["d/a.tsv", "d/sub/b.tsv"]
    assert "passed over: 6 the same by another name" in passed.text
    assert names(f"{tmp_path}/d/**/*.tsv", tmp_path) == ["d/a.tsv", "d/sub/b.tsv"]
    pattern = "/".join([str(tmp_path), "d", *["*"] * 20, "*.tsv"])
    assert [name[-5:] for name in names(pattern, tmp_path)] == ["a.tsv", "b.tsv"]


def test_links_to_nothing_are_refused_where_they_may_be_tables(tmp_path: Path) -> None:
    put(tmp_path, "d/a.tsv")
    link(tmp_path / "d/readme.md", "gone.md")
    link(tmp_path / "d/.hidden", "gone")
    assert names(f"{tmp_path}/d", tmp_path) == ["d/a.tsv"]
    for name in ("b.tsv", "shard"):
        link(tmp_path / "d" / name, "gone")
        for tables in (f"{tmp_path}/d", f"{tmp_path}/d/{name}", f"{tmp_path}/d/*"):
            with pytest.raises(ValueError, match=f"{name}: a link to nothing"):
                find_files(tables)
        (tmp_path / "d" / name).unlink()
    link(tmp_path / "d/self.tsv", "self.tsv")
    with pytest.raises(ValueError, match=r"self\.tsv: a link to nothing"):
        find_files(f"{tmp_path}/d")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    put(tmp_path, "d/a.tsv")
    os.mkfifo(tmp_path / "d/b.tsv")
    for tables in ("d", "d/*.tsv"):
        with pytest.raises(ValueError, match=r"b\.tsv: no regular file"):
            find_files(f"{tmp_path}/{tables}")
    with pytest.raises(ValueError, match=r"b\.tsv: no such file"):
        find_files(f"{tmp_path}/d/b.tsv")


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o311])  # no rights; names only; entering only
@pytest.mark.parametrize("tables", ["d", "d/**/*.tsv", "d/*/*.tsv", "d/*"])
def test_what_cannot_be_listed_is_an_error(mode: int, tables: str, open_path: Path) -> None:  # noqa: F811
    put(open_path, "d/a.tsv", "d/locked/d.tsv")
    if tables == "d/*":
        (open_path / "d/a.tsv").unlink()
    (open_path / "d/locked").chmod(mode)
    with (
        unprivileged(),
        pytest.raises(ValueError, match=r"--tables .*cannot be read: .*Permission denied.*locked"),
    ):
        find_files(f"{open_path}/{tables}")
    (open_path / "d/locked").chmod(0o755)
    with unprivileged():
        assert "d.tsv" in find_files(f"{open_path}/{tables}")[-1].path


def test_a_link_into_a_closed_directory_is_an_error(open_path: Path) -> None:  # noqa: F811
    put(open_path, "d/a.tsv", "closed/shard/b.tsv")
    link(open_path / "d/shard", open_path / "closed/shard")
    (open_path / "closed").chmod(0o000)
    with unprivileged(), pytest.raises(ValueError, match="Permission denied"):
        find_files(f"{open_path}/d")


def test_hidden_directories_may_be_closed(open_path: Path) -> None:  # noqa: F811
    put(open_path, "d/a.tsv", "d/lost+found/b.tsv", "d/.snapshot/c.tsv")
    (open_path / "d/lost+found").chmod(0o000)
    (open_path / "d/.snapshot").chmod(0o000)
    with unprivileged():
        assert names(f"{open_path}/d", open_path) == ["d/a.tsv"]


def test_other_names_are_counted(tmp_path: Path, passed: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "d/a.tsv", "d/c.csv", "d/e/c2.csv", "d/LICENSE", "d/_x.tsv", "d/.y.tsv", "d/_tmp/z.tsv",
        "d/t.tsv.tmp", "d/b.jsonl")  # fmt: skip
    assert names(f"{tmp_path}/d", tmp_path) == ["d/a.tsv"]
    line = (
        f"{tmp_path}/d: 1 files; passed over: 3 hidden (their names start with _ or .), 2 *.csv, "
        "1 without a suffix, 1 *.jsonl, 1 *.tmp"
    )
    assert line in passed.text
    assert names(f"{tmp_path}/d/*", tmp_path) == ["d/a.tsv"]
    assert "1 directories beside files that match" in passed.text
    (tmp_path / "d/a.tsv").unlink()
    for tables in ("d", "d/*"):
        with pytest.raises(ValueError, match=r"no table files .* passed over: .*2 \*\.csv"):
            find_files(f"{tmp_path}/{tables}")


def test_a_pattern_may_name_what_is_hidden(tmp_path: Path) -> None:
    put(tmp_path, "d/_x.tsv", "d/a.tsv", "_d/b.tsv")
    assert names(f"{tmp_path}/d/_*.tsv", tmp_path) == ["d/_x.tsv"]
    assert names(f"{tmp_path}/d/*.tsv", tmp_path) == ["d/a.tsv"]
    assert names(f"{tmp_path}/_*/*.tsv", tmp_path) == ["_d/b.tsv"]


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    put(tmp_path, "d/a.TSV", "d/b.Parquet", "d/c.tsv.GZ", "d/d.TXT")
    kinds = [(os.path.basename(f.path), f.kind) for f in find_files(f"{tmp_path}/d")]
    assert kinds == [("a.TSV", "tsv"), ("b.Parquet", "parquet"), ("c.tsv.GZ", "tsv.gz"), ("d.TXT", "tsv")]


def test_a_linked_file_that_changes_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, "far/a.tsv")
    link(tmp_path / "a.tsv", "far/a.tsv")
    (file,) = find_files(f"{tmp_path}/a.tsv")
    check_unchanged(file)
    os.utime(tmp_path / "far/a.tsv", (1, 1))
    with pytest.raises(ValueError, match=r"a\.tsv: the file changed"):
        check_unchanged(file)


def test_a_manifest_of_others_is_a_file_like_any(tmp_path: Path, passed: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "d/a.tsv", "d/sub/b.tsv")
    for content in ('{"name": "app", "icons": []}', "[1]", '{"a": 1}\n{"a": 2}\n'):
        (tmp_path / "d/manifest.json").write_text(content)
        (tmp_path / "d/sub/manifest.json").write_text(content)
        assert names(f"{tmp_path}/d", tmp_path) == ["d/a.tsv", "d/sub/b.tsv"]
    assert "2 *.json" in passed.text
    put(tmp_path, "ours/part-000000.parquet")
    (tmp_path / "ours/manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"ours/manifest\.json: not JSON"):
        find_files(str(tmp_path))


def test_only_the_parts_of_a_table_of_ours_match(tmp_path: Path, passed: pytest.LogCaptureFixture) -> None:
    finished(tmp_path / "t", "part-000000.parquet")
    put(tmp_path, "t/part-000007.parquet", "more/x.parquet")  # the first was left by a killed writer
    for pattern, found in (("t/*.parquet", 1), ("**/*.parquet", 2), ("*/*", 2)):
        parts = names(f"{tmp_path}/{pattern}", tmp_path)
        assert "t/part-000000.parquet" in parts
        assert len(parts) == found
    assert "not in a table's manifest.json" in passed.text


def test_a_single_file_and_its_run_directory_are_one_table(tmp_path: Path) -> None:
    put(tmp_path, "d/x.parquet")
    finished(tmp_path / "d/x.parquet.run", "part-000000.parquet")
    assert names(f"{tmp_path}/d", tmp_path) == ["d/x.parquet"]
    (tmp_path / "d/x.parquet.run/manifest.json").unlink()
    with pytest.raises(ValueError, match="not finished"):
        find_files(f"{tmp_path}/d")
    (tmp_path / "d/x.parquet").unlink()
    finished(tmp_path / "d/x.parquet.run", "part-000000.parquet")
    assert names(f"{tmp_path}/d", tmp_path) == ["d/x.parquet.run/part-000000.parquet"]


def test_runs_that_hold_no_rows_are_passed_over(tmp_path: Path, passed: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "d/a.tsv", "d/model/best/vocab.txt")
    (tmp_path / "d/model/_run").mkdir()
    (tmp_path / "d/model/_run/plan.json").write_text('{"stage": "train", "identity": {}}')
    finished(tmp_path / "d/t", "part-000000.parquet")
    finished(tmp_path / "d/t.new", "part-000000.parquet")
    (tmp_path / "d/t.new/_run/replaces.json").write_text("{}")
    assert names(f"{tmp_path}/d", tmp_path) == ["d/a.tsv", "d/t/part-000000.parquet"]
    assert "1 a run of train, no table" in passed.text
    assert "1 an --overwrite that is not done" in passed.text
    with pytest.raises(ValueError, match=r"model: a run of train, no table"):
        find_files(f"{tmp_path}/d/model")


def test_object_stores_are_listed_by_directory(
    store: type[FakeStore], passed: pytest.LogCaptureFixture
) -> None:
    for i in range(300):
        FakeStore.store[f"/b/d/{i % 3}/{i:03d}.tsv"] = fsspec.implementations.memory.MemoryFile(
            FakeStore(), f"/b/d/{i % 3}/{i:03d}.tsv", ROW
        )
    FakeStore().pipe_file("/b/d/x.csv", ROW)
    FakeStore.requests, FakeStore.failing = 0, 0.1
    assert len(find_files("s3://b/d")) == 300
    assert len(find_files("s3://b/d/**/*.tsv")) == 300
    assert "passed over: 1 *.csv" in passed.text
    FakeStore.failing = 0.0
    FakeStore.denied = ("/b/d/1",)
    try:
        for tables in ("s3://b/d", "s3://b/d/*/*.tsv"):
            with pytest.raises(ValueError, match="AccessDenied"):
                find_files(tables)
    finally:
        FakeStore.denied = ()


def test_parts_keep_their_sums(tmp_path: Path) -> None:
    finished(tmp_path / "t", "part-000000.parquet", "part-000001.parquet")
    assert [f.sha256 for f in find_files(str(tmp_path / "t"))] == [sha256(ROW)] * 2
