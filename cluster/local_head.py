"""A Ray head on this machine alone: loopback only, token auth, own ports and temp dir; several may run at once.

    python cluster/local_head.py run -- COMMAND...   a head for one command; COMMAND's exit code; always stopped
    eval "$(python cluster/local_head.py start)"     a head that stays; now `ray job submit` finds it
    python cluster/local_head.py status              0 it answers, 3 there is none
    eval "$(python cluster/local_head.py stop)"      ends it, and takes its variables out of the shell

then, in that shell or as COMMAND:

    ray job submit --working-dir . -- python jobs/precompute_codes.py --tables /abs/pairs.tsv --outputs /abs/codes --vqgan bundled
    ray job submit --working-dir . -- python jobs/train.py --tables /abs/codes,/abs/valid --checkpoint-dir /abs/model --model tiny
    ray job submit --working-dir . -- python jobs/generate.py --tables /abs/prompts.tsv --checkpoint-dir /abs/model --outputs /abs/out.tsv

Standard library only; runs `ray` of the interpreter that runs this file. Linux. `ray stop` is never used: it would
end every Ray cluster of the machine. A head's processes are found by parent, by session and by a mark in their
environment, so that a job's driver (a session of its own) is found too.
"""  # noqa: E501

import ctypes
import importlib.util
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from process_table import (
    Listener,
    descendants,
    end_processes,
    has_environment,
    listeners,
    read_process,
    read_processes,
)

LOOPBACK = "127.0.0.1"
MARK = "PAINTER_LOCAL_HEAD"
MIN_LOGICAL_CPUS = 4  # fewer, and the stages of a pipeline starve each other on a 2-core machine
START_TIMEOUT_S = 180.0
STOP_GRACE_S = 8.0
COMMAND_GRACE_S = 5.0
NOT_RUNNING = 3  # as LSB init scripts answer `status`
PORTS = range(20000, 32000)  # below Linux' ephemeral range, so that nobody is handed one of them by chance
LONGEST_BASE = 40  # sun_path has 108 bytes, and Ray appends about 66 to the temp dir
FOREIGN_VARIABLES = ("RAY_ADDRESS", "RAY_AUTH_TOKEN")  # would lead to another cluster, or outrank our token file


@dataclass(frozen=True, kw_only=True)
class Head:
    """A started head: enough to use it, and to find every process of it again."""

    temp_dir: str
    pid: int
    start_ticks: int
    dashboard_port: int

    @property
    def address(self) -> str:
        """Where jobs are submitted."""
        return f"http://{LOOPBACK}:{self.dashboard_port}"

    def processes(self) -> set[int]:
        """The pids of everything this head started that still lives."""
        table = read_processes()
        leader = table.get(self.pid)
        mark = f"{MARK}={self.temp_dir}"
        found = {pid for pid in table if has_environment(pid, mark)}
        # Workers overwrite their environment block with their title (setproctitle), hence also parent and
        # session; both only while the pid is not somebody else's by now.
        if leader is None or leader.start_ticks == self.start_ticks:
            found |= descendants(self.pid, table)
            found |= {process.pid for process in table.values() if process.session == self.pid}
        return found - {os.getpid()}

    def is_alive(self) -> bool:
        """True while the head's first process runs."""
        leader = read_process(self.pid)
        return leader is not None and leader.start_ticks == self.start_ticks


def start_head(num_cpus: int, *, dies_with_parent: bool) -> Head:
    """Start a head and wait until it takes jobs.

    Raises:
        RuntimeError: Ray did not come up, or listens on more than the loopback; nothing is left behind.
    """
    if importlib.util.find_spec("ray") is None:
        raise RuntimeError(f"{sys.executable} has no ray: use the project's own, .venv/bin/python, after `make venv`")
    temp_dir = _make_temp_dir()
    try:
        return _launch(temp_dir, num_cpus, dies_with_parent)
    except BaseException:  # Ctrl-C too: whatever was started carries the mark
        end_processes(Head(temp_dir=str(temp_dir), pid=-1, start_ticks=-1, dashboard_port=0).processes, grace_s=2)
        shutil.rmtree(temp_dir, ignore_errors=True)
        raise


def stop_head(head: Head) -> None:
    """End every process of the head, wait for it, remove its temp dir (logs and token)."""
    end_processes(head.processes, grace_s=STOP_GRACE_S)
    shutil.rmtree(head.temp_dir, ignore_errors=True)


def exposed(head: Head) -> list[Listener]:
    """Listening sockets of the head that other machines could reach: must be none."""
    return [listener for listener in listeners(head.processes()) if not listener.is_loopback]


def environment(temp_dir: Path, address: str) -> dict[str, str]:
    """The variables that lead `ray job submit` (and `python`) to a head."""
    no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), LOOPBACK, "localhost"]))
    return {
        "RAY_API_SERVER_ADDRESS": address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(temp_dir / "token"),
        # Ray's only switch that keeps every service off the network; --node-ip-address=127.0.0.1 is replaced.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def search_path(temp_dir: Path) -> str:
    """The directory of `python` and `ray`, by a way without a space in it."""
    return str(temp_dir / "venv" / "bin")


def _make_temp_dir() -> Path:
    base = tempfile.gettempdir()
    if len(base) > LONGEST_BASE or " " in base:
        base = "/tmp"
    temp_dir = Path(tempfile.mkdtemp(prefix="painter-", dir=base))  # mode 0700
    with open(temp_dir / "token", "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(secrets.token_hex(32))
    # Ray starts a worker that has a runtime env by `bash -c "exec {sys.executable} ..."` without quotes
    # (ray/_private/runtime_env/context.py), which never comes up in a path with a space. Python takes
    # sys.executable as it was called and finds pyvenv.cfg beside it, so a link to the venv is enough.
    (temp_dir / "venv").symlink_to(Path(sys.prefix).absolute(), target_is_directory=True)
    if not (temp_dir / "venv" / "bin" / "python").exists():
        raise RuntimeError(f"{sys.prefix} has no bin/python: use the project's own, .venv/bin/python")
    return temp_dir


def _launch(temp_dir: Path, num_cpus: int, dies_with_parent: bool) -> Head:
    dashboard, client, *metrics = _free_ports(4)
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    env |= environment(temp_dir, f"http://{LOOPBACK}:{dashboard}")
    env |= {
        MARK: str(temp_dir),
        "PATH": search_path(temp_dir) + os.pathsep + os.environ.get("PATH", os.defpath),
        # Fixed ports by default, on which a second head would fail without a word.
        "AUTOSCALER_METRIC_PORT": str(metrics[0]),
        "DASHBOARD_METRIC_PORT": str(metrics[1]),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # 30 s by default, spent waiting for jobs that are ended too
    }
    # The session of its own keeps the terminal's Ctrl-C away from the head: jobs end first, then the head.
    with open(temp_dir / "head.log", "wb") as log:
        root = subprocess.Popen(
            _ray_start(temp_dir, num_cpus, dashboard, client),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=temp_dir,  # `python -m` puts the working directory first on sys.path
            start_new_session=True,
            preexec_fn=_die_with_parent if dies_with_parent else None,
        )
    process = read_process(root.pid)
    head = Head(
        temp_dir=str(temp_dir),
        pid=root.pid,
        start_ticks=process.start_ticks if process else -1,
        dashboard_port=dashboard,
    )
    _wait_until_ready(head, root)
    if found := exposed(head):
        raise RuntimeError(f"Ray listens beyond the loopback, so it was stopped: {found}")
    return head


def _ray_start(temp_dir: Path, num_cpus: int, dashboard_port: int, client_port: int) -> list[str]:
    """0 lets the service take a free port by itself; the client server has no "off", and no 0."""
    picked_by_ray = ("port", "node-manager-port", "object-manager-port", "min-worker-port", "max-worker-port")
    picked_by_agents = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port")
    return [
        str(temp_dir / "venv" / "bin" / "python"),
        *("-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--temp-dir={temp_dir / 'ray'}", f"--num-cpus={num_cpus}"),
        *("--include-dashboard=true", f"--dashboard-host={LOOPBACK}", f"--dashboard-port={dashboard_port}"),
        *(f"--{name}=0" for name in (*picked_by_ray, *picked_by_agents, "metrics-export-port")),
        f"--ray-client-server-port={client_port}",
    ]


def _wait_until_ready(head: Head, root: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    started = Path(head.temp_dir) / "ray" / "ray_current_cluster"  # the last thing that `ray start` writes
    while not (started.exists() and answers(head)):
        if root.poll() is not None or time.monotonic() > deadline:
            log = (Path(head.temp_dir) / "head.log").read_text(errors="replace")
            what = "stopped by itself" if root.poll() is not None else f"did not answer in {START_TIMEOUT_S:.0f} s"
            raise RuntimeError(f"the Ray head {what}; the end of its log:\n{log[-3000:]}")
        time.sleep(0.1)


def answers(head: Head) -> bool:
    """True if the head's job server takes our token."""
    token = (Path(head.temp_dir) / "token").read_text()
    request = urllib.request.Request(f"{head.address}/api/version", headers={"Authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for the loopback
    try:
        with opener.open(request, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _free_ports(count: int) -> list[int]:
    free: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        free.append(port)
        if len(free) == count:
            return free
    raise RuntimeError(f"no {count} free ports in {PORTS.start}-{PORTS.stop}")


def _die_with_parent() -> None:
    """Between fork and exec: have the kernel end the head if `run` is killed with SIGKILL."""
    pr_set_pdeathsig = 1  # linux/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
