"""A Ray head on this machine alone, for `ray job submit`: loopback, token auth; several may run at once.

    python cluster/local_head.py run -- COMMAND...  a head for one command, whose exit code it returns
    eval "$(python cluster/local_head.py start)"    a head that stays; from now on `ray job submit` finds it
    python cluster/local_head.py status             exit code 0: it answers, 3: there is none
    eval "$(python cluster/local_head.py stop)"     ends it, and takes its variables out of the shell

In that shell, or as COMMAND (paths absolute, the job sees a copy of the working directory):

    ray job submit --working-dir . -- python jobs/precompute_codes.py --tables /data/pairs.tsv \
        --vqgan bundled --outputs /data/codes
    ray job submit --working-dir . -- python jobs/train.py --tables /data/codes,/data/codes_valid \
        --model tiny --checkpoint-dir /data/model
    ray job submit --working-dir . -- python jobs/generate.py --tables /data/prompts.tsv \
        --checkpoint-dir /data/model --outputs /data/painted.tsv

`run` and `start` take --num-cpus N; start, status and stop take --state DIR, which remembers the head.
`ray stop` is never used: it would end every Ray cluster of the machine. Standard library only; Linux.
"""

import argparse
import dataclasses
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from process_table import descendants, end_processes, read_processes
from ray_head import FOREIGN_VARIABLES, Head, start_head, stop_head

sys.path.append(str(Path(__file__).resolve().parents[1]))  # so that no package need be installed

from painter_core.compute.cpus import usable_cpus

MIN_LOGICAL_CPUS = 2  # the stages of a job ask for shares of a CPU, so that two are enough for all of them
COMMAND_GRACE_S = 5.0
NOT_RUNNING = 3  # as LSB init scripts answer `status`
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked us to end; BaseException, so that no handler but ours takes it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


def default_num_cpus() -> int:
    """The CPUs this process may use, but at least MIN_LOGICAL_CPUS."""
    return max(MIN_LOGICAL_CPUS, usable_cpus())


def start(state: Path, num_cpus: int) -> int:
    """Start the state's head unless it runs; print its environment for `eval`."""
    with _locked(state) as record:
        head = _recorded(record)
        if head is not None and head.is_alive() and head.answers():
            print(f"local head: already running, {head.address}", file=sys.stderr)
        else:
            if head is not None:
                stop_head(head)  # what a crash left
            head = start_head(num_cpus, dies_with_parent=False)
            record.write_text(json.dumps(dataclasses.asdict(head)), encoding="utf-8")
            print(f"local head: {head.address}, {num_cpus} logical CPUs, in {head.temp_dir}", file=sys.stderr)
    print(f"unset {' '.join(FOREIGN_VARIABLES)}")
    for name, value in head.variables.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(head.bin_dir)}:"$PATH"')
    return 0


def stop(state: Path) -> int:
    """End the state's head, if any; print what takes its environment out of a shell."""
    with _locked(state) as record:
        head = _recorded(record)
        if head is None:
            print("local head: none is running", file=sys.stderr)
            return 0
        stop_head(head)
        record.unlink()
    print("local head: stopped", file=sys.stderr)
    print(f"unset {' '.join(name for name in head.variables if name.startswith('RAY_'))}")
    return 0


def status(state: Path) -> int:
    """Say whether the state's head answers, and what it listens on."""
    head = _recorded(state / "head.json")
    if head is None or not head.is_alive():
        print("local head: not running")
        return NOT_RUNNING
    answers, exposed = head.answers(), head.exposed()
    print(f"local head: {head.address} {'answers' if answers else 'DOES NOT ANSWER'}, in {head.temp_dir}")
    print(f"  {len(head.processes())} processes, listening on", exposed or "the loopback only")
    return 0 if answers and not exposed else 1


def run(command: list[str], num_cpus: int) -> int:
    """Run the command beside a head of its own; its exit code, or 128 + signal."""
    head = start_head(num_cpus, dies_with_parent=True)
    try:
        print(f"local head: Ray runs on this machine alone, with {num_cpus} CPUs", file=sys.stderr)
        env = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
        env |= head.variables | {"PATH": head.bin_dir + os.pathsep + os.environ.get("PATH", os.defpath)}
        return run_command(command, env)
    finally:
        for signum in SIGNALS:  # Ctrl-C from here on must not leave half a head behind
            signal.signal(signum, signal.SIG_IGN)
        stop_head(head)


def run_command(command: list[str], env: dict[str, str]) -> int:
    """Run the command in this environment, ending all it started if we are interrupted; its exit code."""
    try:
        child = subprocess.Popen(command, env=env)
    except OSError as error:
        print(f"local head: cannot run {command[0]!r}: {error.strerror}", file=sys.stderr)
        return 127
    try:
        code = child.wait()
    except Interrupted as interruption:
        if interruption.exit_code == 128 + signal.SIGINT:  # a terminal's Ctrl-C went to the command as well
            _wait_quietly(child)
        end_processes(lambda: descendants(child.pid, read_processes()), grace_s=COMMAND_GRACE_S)
        raise
    return code if code >= 0 else 128 - code


def _wait_quietly(child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + COMMAND_GRACE_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def _raise_interrupted(signum: int, _frame: FrameType | None) -> None:
    for other in SIGNALS:  # the first one starts the clean-up, a second one must not cut it short
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(signum)


@contextmanager
def _locked(state: Path) -> Iterator[Path]:
    """The state's record, while no other start or stop touches it."""
    state.mkdir(parents=True, exist_ok=True)
    with open(state / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield state / "head.json"


def _recorded(record: Path) -> Head | None:
    try:
        return Head(**json.loads(record.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("start", "stop", "status", "run"):
        action = actions.add_parser(name)
        if name in ("start", "run"):
            action.add_argument("--num-cpus", type=int, default=default_num_cpus(), help="logical CPUs")
        if name != "run":
            # Inside the venv: it belongs to this checkout, git ignores it, and nobody else can write there.
            default = Path(sys.prefix, "local_head")
            action.add_argument("--state", type=Path, default=default, help="where the head is remembered")
    return parser


def main(arguments: list[str]) -> int:
    """Do what the command line says; everything behind `--` is the command of `run`."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser, command = _parser(), arguments[at + 1 :]
    options = parser.parse_args(arguments[:at])
    if (options.action == "run") != bool(command):
        parser.error("`run`, and only `run`, takes a command: local_head.py run -- make all")
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(signum, _raise_interrupted)
    try:
        match options.action:
            case "run":
                return run(command, options.num_cpus)
            case "start":
                return start(options.state, options.num_cpus)
            case "stop":
                return stop(options.state)
            case _:
                return status(options.state)
    except RuntimeError as error:
        print(f"local head: {error}", file=sys.stderr)
        return 1
    except Interrupted as interruption:
        return interruption.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
