"""What Ray's C++ part writes past Python while it starts: its first line is left out, and nothing else."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from painter_core.runs import ray_messages, terminal
from painter_core.runs.ray_messages import OF_THE_VARIABLE
from tests.support.terminals import in_pipe

LINES = f"[2026 I 1 1] logging.cc:303: {OF_THE_VARIABLE} to 3\n[2026 F 1 1] something else\n".encode()


def writing(end: Callable[[], object], level: str = "info") -> Callable[[], None]:
    """A start of Ray that ends in some way."""

    def call() -> None:
        terminal.set_up()
        terminal.set_level(level)
        with ray_messages.without_first_line():
            os.write(2, LINES)
            end()
        os.write(2, LINES)

    return call


def nothing() -> None:
    """Ray has started."""


def test_the_first_line_is_left_out_of_the_start_alone(tmp_path: Path) -> None:
    code, got = in_pipe(writing(nothing), tmp_path / "log")
    assert code == 0
    assert got == "[2026 F 1 1] something else\n" + LINES.decode()


def test_what_is_said_before_a_crash_arrives(tmp_path: Path) -> None:
    code, got = in_pipe(writing(lambda: os.kill(os.getpid(), signal.SIGKILL)), tmp_path / "log")
    assert code == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while not got and time.monotonic() < deadline:  # the filter is another process, and outlives this one
        time.sleep(0.01)
        got = (tmp_path / "log").read_text()
    assert got == "[2026 F 1 1] something else\n"


def test_an_error_while_ray_starts_is_shown_whole(tmp_path: Path) -> None:
    def fails() -> None:
        raise ConnectionError("no cluster")

    code, got = in_pipe(writing(fails), tmp_path / "log")
    assert code == 1
    assert got.startswith("[2026 F 1 1] something else\n")
    assert "ConnectionError: no cluster" in got


@pytest.mark.parametrize(("level", "variables"), [("info", ["fatal", "ERROR"]), ("debug", [None, None])])
def test_debug_shows_all(level: str, variables: list[str | None], tmp_path: Path) -> None:
    def set_variables() -> None:
        names = ("RAY_BACKEND_LOG_LEVEL", "RAY_DATA_LOG_LEVEL")
        for name in names:
            os.environ.pop(name, None)
        ray_messages.set_variables()
        assert [os.environ.get(name) for name in names] == variables
        assert ray_messages.options()["log_to_driver"] == (level == "debug")

    code, got = in_pipe(writing(set_variables, level), tmp_path / "log")
    assert code == 0
    first = LINES if level == "debug" else LINES.splitlines(True)[1]
    assert got == (first + LINES).decode()
