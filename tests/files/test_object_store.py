"""Output and input on an object store that has no rename and answers every tenth request with 503 (T21)."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from painter_core.files import object_store
from painter_core.files.object_store import few_tries
from painter_core.files.storage import filesystem, read_json, write_bytes
from painter_core.files.store_errors import StoreError
from painter_core.tables.inputs import find_files
from painter_core.tables.part_writer import PartWriter
from tests.support.fake_store import FakeStore, no_store
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
        for tries, context in ((object_store.TRIES, nullcontext()), (object_store.FEW_TRIES, few_tries())):
            FakeStore.requests = 0
            with (
                context,
                pytest.raises(OSError, match=r"closed|timeout|internal error|reduce your request rate"),
            ):
                call()
            assert FakeStore.requests == tries


def test_requests_are_tried_for_more_than_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(object_store.time, "sleep", waited.append)

    def away() -> None:
        raise no_store()

    with pytest.raises(StoreError, match="Could not connect"):
        object_store.retried(away)
    assert 60 < sum(waited) < 120
    waited.clear()
    with few_tries(), pytest.raises(StoreError, match="Could not connect"):
        object_store.retried(away)
    assert 5 < sum(waited) < 10


def test_few_tries_are_over_in_seconds_where_the_client_tries_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(object_store.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(object_store.time, "monotonic", lambda: clock[0])

    def away() -> None:
        clock[0] += 9
        raise no_store()

    with few_tries(), pytest.raises(StoreError, match="Could not connect"):
        object_store.retried(away)
    assert clock == [9.0]
    with pytest.raises(StoreError, match="Could not connect"):
        object_store.retried(away)
    assert clock == [9.0 * (1 + object_store.TRIES)]


def test_a_run_makes_two_requests_for_a_record_and_one_for_a_part(
    store: type[FakeStore], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written, and records are read at the end; 10,000 units are no storm of requests."""
    asked, request = Counter[str](), FakeStore._request

    def counting(self: FakeStore, path: str) -> None:
        asked[self._strip_protocol(path)] += 1
        request(self, path)

    monkeypatch.setattr(FakeStore, "_request", counting)
    run_here(table, "s3://bucket/out")
    parts = [name for name in objects("bucket/out") if name.startswith("part-")]
    assert len(parts) > 3
    assert [asked[f"/bucket/out/{name}"] for name in parts] == [1] * len(parts)
    records = [f"/bucket/out/_run/commits/{int(name[5:11]):06d}.json" for name in parts]
    assert [asked[name] for name in records] == [2] * len(parts)


@pytest.mark.parametrize("request_number", [20, 35, 50])
def test_an_outage_within_a_run_is_sat_out(
    request_number: int, store: type[FakeStore], table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dozen tries in a row find no store."""
    run_here(table, tmp_path / "local")
    request, begun = FakeStore._request, [False]

    def begins(self: FakeStore, path: str) -> None:
        if FakeStore.requests == request_number:
            FakeStore.away, begun[:] = 12, [True]
        request(self, path)

    monkeypatch.setattr(FakeStore, "_request", begins)
    run_here(table, "s3://bucket/out")
    assert (begun, FakeStore.away) == ([True], 0)
    assert rows_of(tmp_path / "local") == {
        n: d for n, d in objects("bucket/out").items() if n.endswith(".parquet")
    }


@pytest.mark.parametrize("fault", ["no store", "no credentials"])
def test_a_store_that_cannot_be_used_is_preflight(
    fault: str, store: type[FakeStore], table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As input and as output: code 2, one line, after a few tries."""
    FakeStore.away, FakeStore.no_credentials = 10**9 * (fault == "no store"), fault == "no credentials"
    said = {"no store": "AWS_ENDPOINT_URL", "no credentials": "AWS_ACCESS_KEY_ID"}[fault]
    for tables, outputs in ((table, "s3://bucket/out"), ("s3://bucket/in.tsv", tmp_path / "out")):
        caplog.clear()
        FakeStore.requests = 0
        assert code_of(lambda t=tables, o=outputs: run_here(t, o)) == 2
        assert said in caplog.records[-1].message
        assert FakeStore.requests <= object_store.FEW_TRIES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tsv"]


def test_a_package_that_is_missing_is_named(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert code_of(lambda: run_here(table, "gs://bucket/out")) == 2
    assert "a package for gs:// is missing on this node; pip install 'painter[gs]'" in caplog.text


def test_what_ended_a_run_is_said_when_its_summary_cannot_be_written(
    store: type[FakeStore], table: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(PartWriter, "__call__", lambda *_: go_away())
    with pytest.raises(RuntimeError, match="the first error"):
        run_here(table, "s3://bucket/out")
    assert "summary.json could not be written: Could not connect" in caplog.text
    assert "the run ended with code 1" in caplog.text
    assert "the lock could not be removed" in caplog.text


def go_away() -> None:
    """From now on there is no store."""
    FakeStore.away = 10**9
    raise RuntimeError("the first error")


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
