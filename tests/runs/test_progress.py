"""What the log says of a table while it is made (case 100)."""

import logging
import re
import time
from pathlib import Path

import pytest

from painter_core.runs import progress
from painter_core.runs.progress import Progress
from tests.tables.test_commit import make_plan


def test_a_run_that_stands_still_names_its_oldest_unit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "HEARTBEAT_S", 0.05)
    plan, found = make_plan(tmp_path), Progress("test", "rejects", 1.0)
    assert len(plan.units) == 7
    with found.of(plan.units, plan.files):
        for unit in (1, 0):
            found.add({"unit": unit, "rows_in": 16, "rows_out": 16, "rejected": "{}"})
        deadline = time.monotonic() + 10
        while "no unit came out" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert f"5 are left, the oldest is unit 2 ({tmp_path}/in.tsv, rows 33 to 48)" in caplog.text


def test_the_time_left_is_by_what_came_since_the_first_unit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plan, found = make_plan(tmp_path), Progress("test", "rejects", 1.0)
    with found.of(plan.units, plan.files):
        for unit in plan.units:
            rows = {"rows_in": unit.num_rows, "rows_out": unit.num_rows - 1}
            found.add({"unit": unit.number, **rows, "rejected": '{"text_empty": 1}'})
            found.log(1000.0, now=True)
    lines = [line for line in caplog.messages if "units" in line]
    assert lines[0] == "test: 1 of 7 units, 16 of 100 rows, 1 rejected", "workers took their time to start"
    left = float(re.search(r"rows/s, (\d+) s left", lines[1])[1])
    assert left < 60, "1,000 s since the beginning are no measure"
    assert lines[-1] == "test: 7 of 7 units, 100 of 100 rows, 7 rejected, 0.1 rows/s, 1000 s in all"


def test_a_run_that_goes_on_says_nothing_of_that(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plan, found = make_plan(tmp_path), Progress("test", "rejects", 1.0)
    with found.of(plan.units, plan.files):
        for unit in plan.units:
            found.add({"unit": unit.number, "rows_in": 16, "rows_out": 16, "rejected": "{}"})
    assert "no unit came out" not in caplog.text
    assert found.summary(0, "", 1.0)["units_pending"] == 0
