"""What a job writes is no input of it, wherever --outputs stands."""

import logging
from pathlib import Path

import pytest

from painter_core.tables.inputs import find_files
from tests.support.fake_store import FakeStore
from tests.support.local_run import faults, killed, rows_of, run_here, write_input
from tests.tables.test_inputs import ROW, finished, put


def names(tables: str, outputs: Path | str, root: Path) -> list[str]:
    found = find_files(",".join(f"{root}/{t}" for t in tables.split(",")), str(outputs))
    return [str(Path(f.path).relative_to(root)) for f in found]


@pytest.mark.parametrize("tables", ["d", "d/*", "d/**/*.tsv", "d/sub,d/a.tsv"])
@pytest.mark.parametrize("state", ["begun", "finished", "replaced"])
def test_a_directory_inside_the_input(tables: str, state: str, tmp_path: Path) -> None:
    put(tmp_path, "d/a.tsv", "d/sub/b.tsv", "d/sub/out.lock")
    before = names(tables, tmp_path / "d/sub/out", tmp_path)
    put(tmp_path, "d/sub/out/_run/plan.json", "d/sub/out/part-000000.parquet", "d/sub/out/x.tsv")
    if state != "begun":
        finished(tmp_path / "d/sub/out", "part-000000.parquet")
    if state == "replaced":
        put(tmp_path, "d/sub/out.new/_run/plan.json", "d/sub/out.new/part-000000.parquet")
    assert names(tables, tmp_path / "d/sub/out", tmp_path) == before
    assert names(tables, f"{tmp_path}/d/sub/out/", tmp_path) == before
    assert names(tables, f"file://{tmp_path}/d/sub/out", tmp_path) == before
    (tmp_path / "link").symlink_to(tmp_path / "d/sub")
    assert names(tables, tmp_path / "link/out", tmp_path) == before


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_a_file_inside_the_input(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    put(tmp_path, f"d/a.{suffix}", f"d/out.{suffix}")
    finished(tmp_path / f"d/out.{suffix}.run", "part-000000.parquet")
    for tables in ("d", f"d/*.{suffix}"):
        assert names(tables, tmp_path / f"d/out.{suffix}", tmp_path) == [f"d/a.{suffix}"]
    assert "2 of this job's own --outputs" in caplog.text


@pytest.mark.parametrize("table", ["out", "out/rejects", "out/part-000000.parquet", "out.new"])
def test_the_output_itself_is_refused(table: str, tmp_path: Path) -> None:
    put(tmp_path, "out/_run/plan.json", "out/rejects/part-000000.parquet", "out.new/x.tsv")
    finished(tmp_path / "out", "part-000000.parquet")
    with pytest.raises(ValueError, match=f"{table} lies in --outputs .*: a job does not read what it writes"):
        find_files(str(tmp_path / table), str(tmp_path / "out"))


def test_neighbours_with_like_names_are_read(tmp_path: Path) -> None:
    put(tmp_path, "d/out2/a.tsv", "d/output.tsv")
    assert names("d", tmp_path / "d/out", tmp_path) == ["d/out2/a.tsv", "d/output.tsv"]


def test_in_an_object_store(store: type[FakeStore]) -> None:
    for name in ("d/a.tsv", "d/out/x.tsv", "d/out.new/_run/plan.json"):
        FakeStore().pipe_file(f"/b/{name}", ROW)
    found = find_files("s3://b/d", "s3://b/d/out/")
    assert [f.path.partition("/b/")[2] for f in found] == ["d/a.tsv"]


@pytest.mark.parametrize("output", ["codes", "out.tsv", "out.parquet"])
def test_a_run_inside_its_input_is_resumed_and_complete(
    output: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed, resumed, submitted again, replaced: always the rows of the input, once."""
    caplog.set_level(logging.INFO)
    (tmp_path / "d/sub").mkdir(parents=True)
    write_input(tmp_path / "d/in.tsv")
    inside, outside = tmp_path / "d/sub" / output, tmp_path / output
    run_here(tmp_path / "d", outside)
    assert killed(lambda: run_here(tmp_path / "d", inside), faults(tmp_path / "f", "unit_counted:kill:2"))
    run_here(tmp_path / "d", inside)
    assert "resuming: " in caplog.text
    run_here(tmp_path / "d", inside)
    assert f"already complete: {inside}" in caplog.text
    assert contents_of(inside) == contents_of(outside)
    run_here(tmp_path / "d", inside, seed=2, overwrite=True)
    assert contents_of(inside) == contents_of(outside)
    with pytest.raises(SystemExit) as end:
        run_here(inside, inside)
    assert end.value.code == 2


def contents_of(outputs: Path) -> dict[str, bytes]:
    directory = outputs if outputs.is_dir() else outputs.with_name(outputs.name + ".run")
    return rows_of(directory) | ({} if outputs.is_dir() else {"": outputs.read_bytes()})
