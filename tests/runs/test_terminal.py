"""What a job shows: a display and colours in a terminal, plain lines elsewhere; it ends the same in both."""

import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from painter_core.runs import terminal
from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts, Tasks
from painter_core.runs.table_run import TableRun
from painter_core.tables.unit_row import UnitRow
from tests.support.jobs import ROOT
from tests.support.local_run import ALONE, idx_and_text, table_job, write_input
from tests.support.terminals import ESCAPE, in_pipe, in_terminal

log = logging.getLogger("painter_core.test")
SHOW_CURSOR = "\x1b[?25h"
LONG = "x" * 150


def job(tmp_path: Path, *, unit_s: float = 0.0, fails: BaseException | None = None) -> Callable[[], None]:
    """A table job of 7 units whose every tenth row is rejected."""
    tables = write_input(tmp_path / "in.tsv")

    def slowly(row: UnitRow) -> UnitRow:
        time.sleep(unit_s)
        return row

    def call() -> None:
        terminal.set_up()
        with Run({}) as run:
            run.then(next_step("precompute_codes", str(tmp_path / "out")))
            table = TableRun(table_job(tables, tmp_path / "out", micro_batch_size=16), run, ALONE)
            log.warning("do something about %s", LONG)
            table.execute_here(Tasks(operator=slowly), parts=Parts(build=idx_and_text))
            if fails:
                raise fails

    return call


def shown_text(got: str) -> str:
    """What was written, without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", got).replace("\r", "")


@pytest.mark.long
def test_a_terminal_gets_a_display_that_leaves_only_lines(tmp_path: Path) -> None:
    code, got = in_terminal(job(tmp_path, unit_s=0.35))  # longer than a look of the display
    assert code == 0
    text = shown_text(got)
    assert re.search(r"test ━+ \d+%, 0:00:0\d left", text), "stage, bar, share, time left"
    assert re.search(r"  \d+ of 100 rows · unit \d of 7 · \d+\.\d rows/s", text)
    assert re.search(r"  \d+ rejected \(\d+\.\d%\): \d+ text_empty", text)
    assert re.search(rf"\x1b\[1;33mWARNING: .*{LONG}", got), "bold yellow, and not broken by us"
    assert SHOW_CURSOR in got
    lines = text.splitlines()
    assert re.match(r"\d\d:\d\d:\d\d next: train on them: python jobs/train\.py", lines[-1])
    after = text.rpartition("rows in, ")[2]
    assert "━" not in after, "the display is gone at the end"


def test_elsewhere_lines_are_as_ever(tmp_path: Path) -> None:
    code, got = in_pipe(job(tmp_path), tmp_path / "log")
    assert code == 0
    assert ESCAPE not in got
    lines = [line[9:] for line in got.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(lines) == len(got.splitlines())
    assert lines[1] == f"do something about {LONG}"
    assert lines[2].startswith("test: 7 of 7 units, 100 of 100 rows, 10 rejected, ")
    assert lines[3] == f"test: 100 rows in, 90 out, 10 rejected -> {tmp_path}/out"
    assert lines[4].startswith("next: train on them: ")


def test_a_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    code, got = in_terminal(job(tmp_path), term="dumb")
    assert code == 0
    assert ESCAPE not in got
    assert "━" not in got


@pytest.mark.parametrize(
    ("error", "expected"), [(ValueError("--flag: got 1, expected 2"), 1), (KeyboardInterrupt(), 130)]
)
def test_a_failing_job_ends_as_elsewhere(error: BaseException, expected: int, tmp_path: Path) -> None:
    code, got = in_terminal(job(tmp_path, fails=error), columns=120)
    assert code == expected
    assert SHOW_CURSOR in got
    last = shown_text(got).splitlines()[-1]
    assert "submit the same command again" in last
    assert ("Traceback" in got) == (expected == 1), "a bug shows its traceback, whole"
    (tmp_path / "pipe").mkdir()
    assert in_pipe(job(tmp_path / "pipe", fails=error), tmp_path / "log")[0] == expected


def test_ctrl_c_ends_with_130_and_gives_the_cursor_back(tmp_path: Path) -> None:
    code, got = in_terminal(job(tmp_path, unit_s=0.35), keys=("of 7", b"\x03"))
    assert code == 130
    assert got.rfind(SHOW_CURSOR) > got.rfind("\x1b[?25l")
    assert "interrupted; submit the same command again to resume (exit code 130)" in shown_text(got)


def test_only_a_terminal_loads_rich() -> None:
    script = (
        "import sys; from painter_core.runs import terminal as t; t.set_up(); print('rich' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"
