"""--help of every job: its commands can be copied from there."""

import importlib
import sys
from pathlib import Path

import pytest

from painter_core.runs.command_line import COMMANDS
from tests.support.jobs import ROOT
from tests.support.local_run import code_of

JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("[a-z]*.py"))


@pytest.mark.parametrize("job", JOBS)
def test_commands_stand_as_they_are_typed(
    job: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Narrow terminals break texts, not commands; no two commands run together."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", [f"{job}.py", "--help"])
    module = importlib.import_module(f"jobs.{job}")
    assert code_of(module.main) == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    lines = [line.strip() for line in (module.__doc__ or "").splitlines()]
    typed = [line for line in lines if line.startswith((*COMMANDS, "--"))]
    assert typed
    assert [line for line in typed if shown.count(line) != 1] == []
    assert sum(line.startswith(COMMANDS) for line in shown) == sum(
        line.startswith(COMMANDS) for line in typed
    )


def test_all_jobs_are_here() -> None:
    assert len(JOBS) == 11
    assert Path(ROOT / "jobs" / f"{JOBS[0]}.py").is_file()
