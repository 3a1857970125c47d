"""One driver at a time writes to an output; the lock of a dead one is taken over (case 95, T12)."""

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painter_core.errors import Refused
from painter_core.files.storage import filesystem, read_json, write_json
from painter_core.runs import lock
from painter_core.runs.lock import RunLock
from painter_core.runs.run import Run
from painter_core.runs.training_run import TrainingRun
from painter_core.training.run_flags import TrainingRunFlags
from tests.support.fake_store import FakeStore
from tests.support.local_run import code_of, contents, run_here, write_input


def nobody(message: str) -> None:
    raise AssertionError(message)


def hold(url: Path | str, **changes: Any) -> dict[str, Any]:
    """Leaves a lock behind as another driver would, and returns its record."""
    held = RunLock(str(url), nobody)
    record = held._record | {"run_id": "other", **changes}
    write_json(*filesystem(held.url), record)
    return record


def ended_process() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_second_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    first, second = (RunLock(f"{tmp_path}/out", nobody) for _ in range(2))
    first.acquire()
    for attempt in (second.acquire, second.check):
        with pytest.raises(Refused, match=rf"host {socket.gethostname()}, process {os.getpid()}, since 20"):
            attempt()
    first.release()
    assert not list(tmp_path.iterdir())
    second.acquire()
    second.release()


@pytest.mark.parametrize(
    "dead",
    [
        pytest.param(lambda: {"pid": ended_process()}, id="process-gone"),
        pytest.param(lambda: {"process_started": "1"}, id="process-number-used-again"),
        pytest.param(lambda: {"machine": "elsewhere", "heartbeat_s": time.time() - 61}, id="no-heartbeat"),
        pytest.param(lambda: {"machine": "elsewhere"}, id="died-a-moment-ago"),
        pytest.param(lambda: {"run_id": None}, id="damaged"),
    ],
)
def test_the_lock_of_a_dead_driver_is_taken_over(
    dead: Callable[[], dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lock, "STALE_S", 0.5)
    hold(tmp_path / "out", **dead())
    mine = RunLock(str(tmp_path / "out"), nobody)
    mine.check()
    mine.acquire()
    assert "took over the lock of a run that died" in caplog.text
    mine.release()
    assert not list(tmp_path.iterdir())


def test_an_empty_lock_file_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "UNFINISHED_S", 0.1)
    (tmp_path / "out.lock").write_text("")
    mine = RunLock(str(tmp_path / "out"), nobody)
    mine.acquire()
    mine.release()


@pytest.mark.parametrize("clock_s", [0, -3600])
def test_another_host_is_alive_if_its_lock_moves(
    clock_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 1.0)
    began = time.monotonic()
    record = hold(tmp_path / "out", machine="elsewhere", host="gpu-7", heartbeat_s=time.time() + clock_s)
    ended = threading.Event()

    def beat() -> None:
        beats = 0
        while not ended.wait(0.05):
            beats += 1
            write_json(*filesystem(f"{tmp_path}/out.lock"), record | {"heartbeat_s": float(beats)})

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(Refused, match="host gpu-7"):
        RunLock(str(tmp_path / "out"), nobody).acquire()
    assert time.monotonic() - began < 2, "it waits for a heartbeat, not for the end of its patience"
    ended.set()
    thread.join()


def test_a_run_that_ends_while_it_is_watched_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.1)
    hold(tmp_path / "out", machine="elsewhere")
    ending = threading.Timer(0.3, (tmp_path / "out.lock").unlink)
    ending.start()
    mine = RunLock(str(tmp_path / "out"), nobody)
    mine.acquire()
    ending.join()
    mine.release()
    assert not list(tmp_path.iterdir())


def test_a_heartbeat_moves_and_a_lost_lock_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.02)
    lost = threading.Event()
    mine = RunLock(str(tmp_path / "out"), lambda message: lost.set())
    mine.acquire()
    fs, path = filesystem(mine.url)
    first = read_json(fs, path)["heartbeat_s"]
    deadline = time.monotonic() + 10
    while read_json(fs, path)["heartbeat_s"] == first:
        assert time.monotonic() < deadline
    other = hold(tmp_path / "out")
    assert lost.wait(10)
    mine.release()
    assert read_json(fs, path) == other, "the other's lock is left alone"


def _contend(url: str, start: Any, results: Any, ended: Any) -> None:
    mine = RunLock(url, nobody)
    start.wait()
    try:
        mine.acquire()
    except Refused:
        results.put("refused")
    else:
        results.put("held")
        ended.wait()
        mine.release()


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_exactly_one_gets_it(stale: bool, tmp_path: Path) -> None:
    if stale:
        hold(tmp_path / "out", pid=ended_process())
    context = multiprocessing.get_context("fork")
    start, ended, results = context.Barrier(8), context.Event(), context.Queue()
    arguments = (str(tmp_path / "out"), start, results, ended)
    processes = [context.Process(target=_contend, args=arguments) for _ in range(8)]
    for process in processes:
        process.start()
    assert sorted(results.get(timeout=30) for _ in processes) == ["held", *["refused"] * 7]
    ended.set()
    for process in processes:
        process.join()
    assert not list(tmp_path.iterdir())


def test_of_two_on_an_object_store_one_gets_it(
    store: type[FakeStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock, "SETTLE_S", 0.3)
    FakeStore.failing = 0.1
    start, results = threading.Barrier(2), []

    def contend() -> None:
        mine = RunLock("s3://bucket/out", nobody)
        start.wait()
        try:
            mine.acquire()
            results.append(mine)
        except Refused:
            results.append(None)

    threads = [threading.Thread(target=contend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (holder,) = [r for r in results if r]
    holder.release()
    assert not FakeStore.store
    hold("s3://bucket/out", pid=ended_process())
    again = RunLock("s3://bucket/out", nobody)
    again.acquire()
    again.release()


def test_runs_lock_their_output(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = write_input(tmp_path / "in.tsv")
    hold(tmp_path / "out")  # of this process, which is alive
    before = contents(tmp_path)
    assert code_of(lambda: run_here(table, tmp_path / "out")) == 4
    assert f"process {os.getpid()}" in caplog.text
    assert code_of(lambda: run_here(table, tmp_path / "out", dry_run=True)) == 4
    training = TrainingRun("train", "--checkpoint-dir", str(tmp_path / "out"), Run({}))
    with pytest.raises(Refused, match="another run writes there"):
        training.take_up({"a": 1}, {}, TrainingRunFlags(), needed_bytes=0, reads=[])
    assert contents(tmp_path) == before
    (tmp_path / "out.lock").unlink()
    run_here(table, tmp_path / "out")
    assert not (tmp_path / "out.lock").exists()
    hold(tmp_path / "out")
    assert code_of(lambda: run_here(table, tmp_path / "out")) == 0, "a complete table needs no lock"


def test_a_failed_run_gives_its_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_input(tmp_path / "in.tsv")
    for name, value in {
        "ENABLE_FAULTS": "1",
        "FAULT": "part_written:EIO:2",
        "FAULT_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(f"PAINTER_{name}", value)
    with pytest.raises(OSError, match="part_written"):
        run_here(table, tmp_path / "out")
    assert not (tmp_path / "out.lock").exists()


def test_a_driver_whose_lock_is_taken_ends_with_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def driver() -> None:
        with Run({}) as run:
            run.lock(str(tmp_path / "out"))
            run.began(lambda *end: written.append(end))
            hold(tmp_path / "out")
            threading.Event().wait(30)

    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.02)
    assert code_of(driver) == 4
    assert not written, "the directory is the other's now"
