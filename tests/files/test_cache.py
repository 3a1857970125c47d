"""The machine's cache: built once, whoever asks at the same time; what is cut short leaves nothing."""

import errno
import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from painter_core.files.cache import build_once, workplace

WORKERS = 4


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def started(call: Callable[[], object]) -> int:
    """The pid of a child that makes a call; its exit code is 1 if that fails."""
    child = os.fork()
    if child == 0:
        try:
            call()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def killed_build(name: str) -> None:
    """A build whose process is killed in the middle of it."""

    def build(directory: Path) -> None:
        (directory / "half").write_bytes(b"x" * 1000)
        os.kill(os.getpid(), signal.SIGKILL)

    child = started(lambda: build_once(name, build))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def fill(directory: Path) -> None:
    assert not list(directory.iterdir()), "a build begins with an empty directory"
    (directory / "whole").write_text("content")


def test_workers_of_a_node_build_once(root: Path, tmp_path: Path) -> None:
    def build(directory: Path) -> None:
        with open(tmp_path / "builds", "a") as file:
            file.write(".")
        time.sleep(0.3)  # the others ask meanwhile
        fill(directory)

    children = [started(lambda: build_once("a", build)) for _ in range(WORKERS)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * WORKERS
    assert (tmp_path / "builds").read_text() == "."
    assert [p.name for p in root.iterdir()] == ["a"], "neither a lock nor a leftover stays"


def test_who_waits_says_so_and_does_not_build(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "painter_core.files.cache")

    def build(directory: Path) -> None:
        (tmp_path / "begun").touch()
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        fill(directory)

    def go_on_when_it_is_said() -> None:
        while "another process" not in caplog.text:
            time.sleep(0.01)
        (tmp_path / "go").touch()

    child = started(lambda: build_once("a", build))
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    thread = threading.Thread(target=go_on_when_it_is_said, daemon=True)
    thread.start()
    found = build_once("a", lambda directory: pytest.fail("it is being built already"))
    assert (found / "whole").read_text() == "content"
    assert os.waitpid(child, 0)[1] == 0


def test_killed_builds_leave_one_leftover_and_a_good_one_none(root: Path) -> None:
    for _ in range(3):
        killed_build("a")
    assert len([p for p in root.iterdir() if p.is_dir()]) == 1
    build_once("a", fill)
    assert [p.name for p in root.iterdir()] == ["a"]


def test_leftovers_of_other_names_are_removed_too(root: Path) -> None:
    """Their tables may never be trained on again."""
    for name in ("a", "a-b", "zoo/c"):
        killed_build(name)
    build_once("b", fill)
    build_once("zoo/d", fill)
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.name != "whole") == [
        "b",
        "zoo",
        "zoo/d",
    ]


def test_what_another_process_is_building_is_left_alone(root: Path, tmp_path: Path) -> None:
    def build(directory: Path) -> None:
        fill(directory)
        (tmp_path / "begun").touch()
        while not (tmp_path / "go").exists():
            time.sleep(0.01)

    child = started(lambda: build_once("a", build))
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    build_once("b", fill)
    (tmp_path / "go").touch()
    assert os.waitpid(child, 0)[1] == 0
    assert (root / "a" / "whole").read_text() == "content"


def test_a_build_that_fails_leaves_nothing_and_is_done_by_the_next(root: Path) -> None:
    def build(directory: Path) -> None:
        (directory / "half").touch()
        raise ValueError("a row cannot be read")

    with pytest.raises(ValueError, match="a row"):
        build_once("a", build)
    assert list(root.iterdir()) == []
    assert (build_once("a", fill) / "whole").exists()


def test_an_entry_can_be_read_by_others(root: Path) -> None:
    """As far as the umask lets them: PAINTER_CACHE may be shared."""
    umask = os.umask(0o022)
    try:
        found = build_once("a", fill)
    finally:
        os.umask(umask)
    assert found.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_with_what_to_do(code: int, root: Path) -> None:
    def build(directory: Path) -> None:
        (directory / "half").touch()
        raise OSError(code, os.strerror(code), "file")

    with pytest.raises(OSError, match=f"{root}.*PAINTER_CACHE") as caught:
        build_once("a", build)
    assert caught.value.errno == code
    assert list(root.iterdir()) == []


def test_a_file_system_without_locks_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=f"{root}.*no locks.*PAINTER_CACHE"):
        build_once("a", fill)


def test_a_workplace_is_empty_and_ones_own(root: Path) -> None:
    def work() -> None:
        with workplace("zoo/a") as directory:
            (directory / "half").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    assert os.waitpid(started(work), 0)[1] == signal.SIGKILL
    with workplace("zoo/a") as directory:
        assert list(directory.iterdir()) == []
        build_once("zoo/b", fill)  # does not take it for a leftover
        assert directory.is_dir()
    assert [p.name for p in (root / "zoo").iterdir()] == ["b"]


def test_a_lock_that_a_killed_build_left_alone_is_removed(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / ".gone.lock").touch()
    build_once("other", lambda directory: None)
    assert [path.name for path in root.iterdir()] == ["other"]
