"""cluster/local_head.py as its users start it: jobs in any path, privacy, exit codes, no process left."""

import ast
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.jobs import ROOT, Head  # it puts cluster/ on the path, a directory of scripts

import local_head  # isort: skip
from process_table import descendants, end_processes, read_processes  # isort: skip

CLUSTER = ROOT / "cluster"
JOB = """
import os, sys, ray
ray.init(log_to_driver=False)

@ray.remote(runtime_env={"env_vars": {"WITH": "a runtime env"}})  # such workers are started through a shell
def executable():
    return sys.executable

print("arguments", sys.argv[1:])
print("executables", sorted({sys.executable, ray.get(executable.remote())}))
print("files", sorted(os.path.join(d, f)[2:] for d, _, files in os.walk(".") for f in files))
"""
START_S = 60  # generous: a busy machine with two cores
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@dataclass(frozen=True, kw_only=True)
class Project:
    """A copy of a small project in a path with a space, and the head that was started there."""

    directory: Path
    python: str
    state: Path
    exports: str

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run the command in the project with the head's environment, as a user's shell would."""
        script = f'eval "$EXPORTS"; {command}'
        return _run(["sh", "-c", script], cwd=self.directory, env=CLEAN | {"EXPORTS": self.exports})

    def head(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run local_head.py in the project."""
        return _run([self.python, str(CLUSTER / "local_head.py"), *arguments], cwd=self.directory, env=CLEAN)


def _run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * START_S, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    directory = tmp_path_factory.mktemp("with space") / "a project"
    for name, text in {
        "jobs/x.py": JOB,
        ".gitignore": (ROOT / ".gitignore").read_text(),
        ".git/HEAD": "ref",
        "quickstart/codes/part-000000.parquet": "big",
        "painter_core/__pycache__/x.pyc": "compiled",
        "painter_core/x.py": "",
    }.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    (directory / ".venv").symlink_to(sys.prefix)
    python, state = str(directory / ".venv" / "bin" / "python"), directory.parent / "state"
    head = [python, str(CLUSTER / "local_head.py")]
    started = _run([*head, "start", "--num-cpus", "3", "--state", str(state)], env=CLEAN)
    assert started.returncode == 0, started.stderr
    yield Project(directory=directory, python=python, state=state, exports=started.stdout)
    _run([*head, "stop", "--state", str(state)], env=CLEAN)


def test_submitted_job_runs_in_a_path_with_a_space(project: Project) -> None:
    done = project.shell("ray job submit --working-dir . -- python jobs/x.py --flag 'a b' 颜色")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arguments ['--flag', 'a b', '颜色']" in done.stdout
    (executable,) = ast.literal_eval(re.findall(r"executables (\[.*\])", done.stdout)[0])
    assert os.path.samefile(os.path.dirname(executable), os.path.dirname(sys.executable))
    travelled = ast.literal_eval(re.findall(r"files (\[.*\])", done.stdout)[0])
    assert {name for name in travelled if "__pycache__" not in name} == {
        ".gitignore",
        "jobs/x.py",
        "painter_core/x.py",
    }


def test_head_is_private(project: Project) -> None:
    status = project.head("status", "--state", str(project.state))
    assert status.returncode == 0, status.stdout + status.stderr  # 1 if anything listens beyond the loopback
    assert "loopback only" in status.stdout
    token = Path(shlex.split(re.findall(r"export RAY_AUTH_TOKEN_PATH=(.*)", project.exports)[0])[0])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    refused = project.shell("RAY_AUTH_TOKEN=wrong ray job list")
    assert refused.returncode != 0
    again = project.head("start", "--state", str(project.state))
    assert again.stdout == project.exports


@pytest.mark.parametrize(
    ("command", "code"), [(["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], 137)]
)
def test_run_hands_on_the_exit_code(command: list[str], code: int) -> None:
    assert local_head.run_command(command, CLEAN) == code


def test_run_needs_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert local_head.run_command(["no such program"], CLEAN) == 127
    with pytest.raises(SystemExit, match="2"):
        local_head.main(["run"])
    assert "run -- make all" in capsys.readouterr().err


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_run_leaves_no_process(project: Project, signum: signal.Signals) -> None:
    sleeper = ["sh", "-c", "echo $RAY_AUTH_TOKEN_PATH; sleep 600"]
    command = [sys.executable, str(CLUSTER / "local_head.py"), "run", "--num-cpus", "1", "--", *sleeper]
    run = subprocess.Popen(command, env=CLEAN, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    temp_dir = Path(run.stdout.readline().strip()).parent
    assert str(temp_dir) not in project.exports  # a second head, beside the project's
    (sleeping,) = (p.pid for p in read_processes().values() if p.parent == run.pid and p.session != p.pid)
    run.send_signal(signum)
    assert run.wait(timeout=START_S) == (143 if signum == signal.SIGTERM else -signal.SIGKILL)
    deadline = time.monotonic() + START_S
    while (left := Head.unlaunched(temp_dir).processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    if signum == signal.SIGTERM:
        assert sleeping not in read_processes()
        assert not temp_dir.exists()
    else:  # nobody was left to do it
        end_processes(lambda: descendants(sleeping, read_processes()), grace_s=1)
        shutil.rmtree(temp_dir)
    assert project.head("status", "--state", str(project.state)).returncode == 0
