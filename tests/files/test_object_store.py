"""Output and input on an object store that has no rename and answers every tenth request with 503 (T21)."""

import errno
from pathlib import Path

import pytest

from painter_core.files import object_store
from painter_core.files.object_store import is_transient
from painter_core.files.storage import filesystem, read_json, write_bytes
from painter_core.tables.inputs import find_files
from tests.support.fake_store import FakeStore
from tests.support.local_run import code_of, contents, rows_of, run_here, write_input


def objects(prefix: str) -> dict[str, bytes]:
    """Every object below a prefix."""
    path = f"/{prefix}/"
    return {
        name[len(path) :]: file.getvalue() for name, file in FakeStore.store.items() if name.startswith(path)
    }


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_input(tmp_path / "in.tsv")


def test_rows_are_the_same_as_on_a_disk(store: type[FakeStore], table: Path, tmp_path: Path) -> None:
    run_here(table, tmp_path / "out")
    FakeStore.failing = 0.1
    run_here(table, "s3://bucket/out")
    assert FakeStore.failed >= 5, "the store was not at fault"
    FakeStore.failing = 0.0
    assert set(objects("bucket/out")) == set(contents(tmp_path / "out"))
    assert rows_of(tmp_path / "out") == {
        n: d for n, d in objects("bucket/out").items() if n.endswith(".parquet")
    }
    assert set(FakeStore.store) == {f"/bucket/out/{name}" for name in objects("bucket/out")}, "leftovers"
    assert code_of(lambda: run_here(table, "s3://bucket/out")) == 0
    assert code_of(lambda: run_here(table, "s3://bucket/out", seed=2)) == 4


@pytest.mark.parametrize("name", ["out.tsv", "out.parquet"])
def test_single_files_and_replacement(
    name: str,
    store: type[FakeStore],
    table: Path,
    tmp_path: Path,
) -> None:
    run_here(table, tmp_path / name)
    FakeStore.failing = 0.1
    run_here(table, f"s3://bucket/{name}", limit=30)
    run_here(table, f"s3://bucket/{name}", overwrite=True)
    FakeStore.failing = 0.0
    assert FakeStore.store[f"/bucket/{name}"].getvalue() == (tmp_path / name).read_bytes()
    assert set(objects(f"bucket/{name}.run")) == set(contents(tmp_path / f"{name}.run"))
    assert not objects(f"bucket/{name}.run.new")
    assert f"/bucket/{name}.lock" not in FakeStore.store


def test_a_resumed_run_sees_what_was_written_meanwhile(
    store: type[FakeStore],
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "1")
    monkeypatch.setenv("PAINTER_FAULT_DIR", str(tmp_path))
    monkeypatch.setenv("PAINTER_FAULT", "unit_counted:EIO:3")
    with pytest.raises(OSError, match="unit_counted"):
        run_here(table, "s3://bucket/out")
    assert "_SUCCESS" not in objects("bucket/out")
    assert read_json(*filesystem("s3://bucket/out/summary.json"))["exit_code"] == 1
    run_here(table, "s3://bucket/out")
    run_here(table, tmp_path / "local")
    assert rows_of(tmp_path / "local") == {
        n: d for n, d in objects("bucket/out").items() if n.endswith(".parquet")
    }


def test_tables_are_read_from_a_store(store: type[FakeStore], table: Path, tmp_path: Path) -> None:
    run_here(table, tmp_path / "local")
    write_bytes(*filesystem("s3://bucket/in/a.tsv"), table.read_bytes())
    FakeStore.failing = 0.1
    run_here("s3://bucket/in/", tmp_path / "out")
    names = {n: d for n, d in rows_of(tmp_path / "out").items() if n.startswith("part-")}
    assert names == {n: d for n, d in rows_of(tmp_path / "local").items() if n.startswith("part-")}
    assert len(find_files("s3://bucket/in/*.tsv")) == 1


def test_retries_are_bounded(store: type[FakeStore]) -> None:
    FakeStore.failing = 1.0
    fs, path = filesystem("s3://bucket/x")
    for call in (lambda: fs.pipe_file(path, b"x"), lambda: fs.exists(path), lambda: fs.open(path)):
        FakeStore.requests = 0
        with pytest.raises(OSError, match="503 SlowDown"):
            call()
        assert FakeStore.requests == object_store.TRIES


def test_an_output_that_is_denied_is_preflight(
    store: type[FakeStore],
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(FakeStore, "denied", (".probe",))
    assert code_of(lambda: run_here(table, "s3://bucket/out")) == 2
    assert "--outputs s3://bucket/out: cannot be written" in caplog.text
    assert not FakeStore.store
    assert FakeStore.requests < 20, "a denied request is not tried again"


class HttpError(Exception):
    """As gcsfs raises it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP {code}")
        self.code = code


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError("SlowDown"), True),
        (OSError(errno.EBUSY, "busy"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (HttpError(503), True),
        (HttpError(403), False),
        (FileNotFoundError("x"), False),
        (PermissionError(13, "expired key"), False),
        (OSError(errno.ENOSPC, "full"), False),
        (ValueError("a bug"), False),
    ],
)
def test_what_is_tried_again(error: Exception, again: bool) -> None:
    assert is_transient(error) is again
