"""The last line of a job: every job has one, and what it says can be typed."""

import importlib
import re
import shlex
import sys

import pytest

from painter_core.runs import next_step as module
from painter_core.runs.next_step import next_step
from tests.runs.test_command_line import JOBS
from tests.support.jobs import ROOT
from tests.support.local_run import code_of

SENTENCES = {
    key: next_step(key.partition(" ")[0], "/data/my table", made=key.partition(" ")[2])
    for key in module._NEXT
}
COMMANDS = {key: text[text.index("python ") :] for key, text in SENTENCES.items() if "python " in text}


def test_every_job_has_one_and_says_it() -> None:
    assert set(JOBS) == {key.partition(" ")[0] for key in module._NEXT}
    for job in JOBS:
        source = (ROOT / "jobs" / f"{job}.py").read_text()
        (stage,) = re.findall(
            rf"from (painter_core\.stages\.\S+) import (?:\w+, )*{job}$", source, re.MULTILINE
        )
        text = (ROOT / f"{stage.replace('.', '/')}.py").read_text()
        assert f'run.then(next_step("{job}"' in text, stage


@pytest.mark.parametrize("job", sorted({command.split()[1] for command in COMMANDS.values()}))
def test_commands_take_these_flags(
    job: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = job.removeprefix("jobs/").removesuffix(".py")
    monkeypatch.setattr(sys, "argv", [job, "--help"])
    assert code_of(importlib.import_module(f"jobs.{name}").main) == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for command in COMMANDS.values():
        words = shlex.split(command)
        if words[1] == job:
            assert {word for word in words if word.startswith("--")} <= known, command


def test_outputs_are_quoted_and_keep_no_secret() -> None:
    assert "'/data/my table'" in SENTENCES["precompute_codes"]
    assert next_step("evaluate", "out/").startswith("open out/report.html")
    assert "key" not in next_step("train", "s3://user:key@bucket/model")


def test_a_dry_run_is_followed_by_the_run() -> None:
    assert next_step("train", "m", dry_run=True) == module.DRY_RUN
