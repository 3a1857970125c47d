"""A driver whose object store is out of reach: its heartbeat goes on, or it stops in time."""

import threading
import time
from pathlib import Path

import pytest

from painter_core.errors import Refused
from painter_core.files.storage import filesystem, read_json, write_json
from painter_core.files.store_errors import StoreError
from painter_core.runs import lock
from painter_core.runs.lock import RunLock
from painter_core.runs.run import Run
from tests.support.fake_store import FakeStore
from tests.support.local_run import code_of

FOREVER = 10**9


def nobody(error: Exception) -> None:
    raise AssertionError(error)


def test_the_heartbeat_outlives_an_outage(store: type[FakeStore], monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's error is no OSError; another driver is refused afterwards as before."""
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.02)
    mine = RunLock("s3://bucket/out", nobody)
    mine.acquire()
    FakeStore.away = FOREVER
    deadline = time.monotonic() + 10
    while FakeStore.away > FOREVER - 30:  # several heartbeats fail, in all their tries
        assert time.monotonic() < deadline
        time.sleep(0.01)
    FakeStore.away = 0
    fs, path = filesystem(mine.url)
    first = read_json(fs, path)["heartbeat_s"]
    while read_json(fs, path)["heartbeat_s"] == first:
        assert time.monotonic() < deadline
    with pytest.raises(Refused, match="another run writes there"):
        RunLock("s3://bucket/out", nobody).acquire()
    mine.release()
    assert not FakeStore.store


def test_a_driver_that_cannot_prove_its_lock_stops(
    store: type[FakeStore], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert lock.PROOF_S + 2 * lock.GUARD_S + lock.HEARTBEAT_S < lock.STALE_S, "before another may take over"
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(lock, "PROOF_S", 0.3)
    monkeypatch.setattr(lock, "GUARD_S", 0.02)
    written: list[object] = []

    def driver() -> None:
        with Run({}) as run:
            run.lock("s3://bucket/out")
            run.began(lambda *end: written.append(end))
            FakeStore.away = FOREVER
            threading.Event().wait(30)

    assert code_of(driver) == 1
    assert not written, "another run may have the place"
    assert (
        "s3://bucket/out: no heartbeat reached the lock for 0 s, and another run may take it over"
        in caplog.text
    )
    assert "the lock could not be removed" in caplog.text


def test_heartbeats_that_hang_do_not_hide_it(
    store: type[FakeStore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client may wait for minutes for an answer that never comes."""
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(lock, "PROOF_S", 0.3)
    monkeypatch.setattr(lock, "GUARD_S", 0.02)
    monkeypatch.setattr(lock, "RELEASE_S", 0.1)
    lost: list[Exception] = []
    mine = RunLock("s3://bucket/out", lost.append)
    mine.acquire()
    answers = threading.Event()
    monkeypatch.setattr(FakeStore, "cat_file", lambda *_, **__: answers.wait(30))
    deadline = time.monotonic() + 10
    while not lost:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert isinstance(lost[0], StoreError)
    mine.release()
    answers.set()


def test_an_answer_after_the_end_stops_nobody(
    store: type[FakeStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may go on with its next part, when another run holds the place of the first one."""
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(lock, "RELEASE_S", 0.1)
    lost: list[Exception] = []
    mine = RunLock("s3://bucket/out", lost.append)
    mine.acquire()
    asked, answers, read = threading.Event(), threading.Event(), FakeStore.cat_file

    def late(self: FakeStore, path: str, *range_: int, **options: object) -> bytes:
        asked.set()
        answers.wait(10)
        return read(self, path, *range_, **options)

    monkeypatch.setattr(FakeStore, "cat_file", late)
    assert asked.wait(10)
    beating = mine._threads[0]
    mine.release()
    fs, path = filesystem(mine.url)
    write_json(fs, path, mine._record | {"run_id": "another"})
    answers.set()
    beating.join(10)
    assert not beating.is_alive()
    assert not lost
