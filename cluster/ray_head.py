"""One Ray head on the loopback: start it, find everything that belongs to it, end it.

All that it keeps is in its temp dir: `token` (0600), `venv` (a link, see _make_temp_dir), `head.log`, `ray/`.
Standard library only; Linux. The commands around it are in local_head.py.
"""

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
HINT = "run this file by the project's own .venv/bin/python"
START_TIMEOUT_S = 180.0
STOP_GRACE_S = 8.0
PORTS = range(20000, 32000)  # below Linux' ephemeral range, so that nobody is handed one of them by chance
PREFIX = "painthead-"
LONGEST_BASE = 20  # sun_path has 108 bytes: our names take 23 of them, Ray's session and socket up to 64
FOREIGN_VARIABLES = ("RAY_ADDRESS", "RAY_AUTH_TOKEN")  # lead to another cluster, or outrank our token file


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head that was launched: enough to use it, and to find every process of it again."""

    temp_dir: str
    pid: int
    start_ticks: int
    dashboard_port: int

    @property
    def address(self) -> str:
        """Where jobs are submitted."""
        return f"http://{LOOPBACK}:{self.dashboard_port}"

    @property
    def bin_dir(self) -> str:
        """The directory of `python` and `ray`, by a path without a space."""
        return f"{self.temp_dir}/venv/bin"

    @property
    def variables(self) -> dict[str, str]:
        """The environment that leads `ray job submit` and the processes of the head to each other."""
        inherited = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
        no_proxy = ",".join(dict.fromkeys([*filter(None, inherited.split(",")), LOOPBACK, "localhost"]))
        return {
            "RAY_API_SERVER_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": f"{self.temp_dir}/token",
            # Ray's only switch that keeps every service off the network; --node-ip-address is replaced by it.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray runs workers at nice 15, so that on few cores everything else goes before them.
            "RAY_worker_niceness": "0",
            # Ray ends workers that idle for a second: almost every task but a model's would start a process.
            "RAY_idle_worker_killing_time_threshold_ms": "600000",
            # glibc keeps what large tensors leave, as painter_core.runs.cluster has it for local runs.
            "MALLOC_MMAP_MAX_": "0",
            "MALLOC_TRIM_THRESHOLD_": str(2**40),
            "MALLOC_ARENA_MAX": "1",
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        }

    @classmethod
    def unlaunched(cls, temp_dir: str | Path, dashboard_port: int = 0) -> "Head":
        """A head without a first process; `processes` finds what carries its mark."""
        return cls(temp_dir=str(temp_dir), pid=-1, start_ticks=-1, dashboard_port=dashboard_port)

    def processes(self) -> set[int]:
        """The pids of everything this head started that still lives."""
        table = read_processes()
        leader = table.get(self.pid)
        found = {pid for pid in table if has_environment(pid, f"{MARK}={self.temp_dir}")}
        # Parent and session too, since a worker's title may overwrite its environment block (setproctitle);
        # not where the pid is somebody else's by now.
        if leader is None or leader.start_ticks == self.start_ticks:
            found |= descendants(self.pid, table)
            found |= {process.pid for process in table.values() if process.session == self.pid}
        return found - {os.getpid()}

    def is_alive(self) -> bool:
        """True while the head's first process runs."""
        leader = read_process(self.pid)
        return leader is not None and leader.start_ticks == self.start_ticks

    def answers(self) -> bool:
        """True if the head's job server takes our token."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for the loopback
        try:
            token = Path(self.temp_dir, "token").read_text(encoding="ascii")
            header = {"Authorization": f"Bearer {token}"}
            request = urllib.request.Request(f"{self.address}/api/version", headers=header)
            with opener.open(request, timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def exposed(self) -> list[Listener]:
        """Listening sockets that other machines could reach: there must be none."""
        return [listener for listener in listeners(self.processes()) if not listener.is_loopback]


def start_head(num_cpus: int, *, dies_with_parent: bool) -> Head:
    """Start a head and wait until it takes jobs.

    Args:
        num_cpus: logical CPUs, may exceed the cores.
        dies_with_parent: end the head if this process is killed, even by SIGKILL.

    Raises:
        RuntimeError: Ray did not come up, or listens beyond the loopback; nothing is left behind.
    """
    if importlib.util.find_spec("ray") is None:
        raise RuntimeError(f"{sys.executable} has no ray: {HINT}")
    temp_dir = _make_temp_dir()
    head = Head.unlaunched(temp_dir)
    try:
        head = _launch(temp_dir, num_cpus, dies_with_parent)
        _wait_until_ready(head)
        if found := head.exposed():
            raise RuntimeError(f"Ray listens beyond the loopback, so it was stopped: {found}")
    except BaseException:  # Ctrl-C too
        stop_head(head)
        raise
    return head


def stop_head(head: Head) -> None:
    """End every process of the head, wait for it, remove its temp dir (logs and token)."""
    end_processes(head.processes, grace_s=STOP_GRACE_S)
    shutil.rmtree(head.temp_dir, ignore_errors=True)


def _make_temp_dir() -> Path:
    base = tempfile.gettempdir()
    if len(base) > LONGEST_BASE or " " in base:
        base = "/tmp"
    _sweep(base)
    temp_dir = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))  # mode 0700
    with open(temp_dir / "token", "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(secrets.token_hex(32))
    # Ray starts a worker that has a runtime env by `bash -c "exec {sys.executable} ..."`, unquoted
    # (ray/_private/runtime_env/context.py), so that it never comes up in a path with a space. Python takes
    # sys.executable as it was called and finds pyvenv.cfg beside it: a link to the venv is enough.
    (temp_dir / "venv").symlink_to(Path(sys.prefix).absolute(), target_is_directory=True)
    if not (temp_dir / "venv" / "bin" / "python").exists():
        shutil.rmtree(temp_dir)
        raise RuntimeError(f"{sys.prefix} has no bin/python: {HINT}")
    return temp_dir


def _sweep(base: str) -> None:
    """Remove what heads left that nobody could stop: their logs and spilled objects may be large."""
    for left in Path(base).glob(f"{PREFIX}*"):
        try:
            is_ours_and_old = left.lstat().st_uid == os.getuid() and time.time() - left.lstat().st_mtime > 600
        except OSError:
            continue
        if is_ours_and_old and not Head.unlaunched(left).processes():
            shutil.rmtree(left, ignore_errors=True)


def _launch(temp_dir: Path, num_cpus: int, dies_with_parent: bool) -> Head:
    dashboard, client, *metrics = _free_ports(4)
    head = Head.unlaunched(temp_dir, dashboard)
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    env |= head.variables
    env |= {
        MARK: head.temp_dir,
        "PATH": head.bin_dir + os.pathsep + os.environ.get("PATH", os.defpath),
        # Fixed numbers by default, on which a second head would fail without a word.
        "AUTOSCALER_METRIC_PORT": str(metrics[0]),
        "DASHBOARD_METRIC_PORT": str(metrics[1]),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # 30 by default, spent waiting for what is ended too
    }
    with open(temp_dir / "head.log", "wb") as log:
        root = subprocess.Popen(
            _ray_start(head, num_cpus, client),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=temp_dir,  # `python -m` puts the working directory first on sys.path
            start_new_session=True,  # keeps the terminal's Ctrl-C away: jobs end first, then the head
            preexec_fn=_die_with_parent if dies_with_parent else None,
        )
    process = read_process(root.pid)
    ticks = process.start_ticks if process else -1
    return Head(temp_dir=head.temp_dir, pid=root.pid, start_ticks=ticks, dashboard_port=dashboard)


def _ray_start(head: Head, num_cpus: int, client_port: int) -> list[str]:
    # 0 lets a service take a free port by itself; the client server knows neither 0 nor "off".
    raylet = ("port", "node-manager-port", "object-manager-port", "min-worker-port", "max-worker-port")
    agents = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port")
    return [
        f"{head.bin_dir}/python",
        *("-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--temp-dir={head.temp_dir}/ray", f"--num-cpus={num_cpus}", "--include-dashboard=true"),
        *(f"--dashboard-host={LOOPBACK}", f"--dashboard-port={head.dashboard_port}"),
        *(f"--{name}=0" for name in (*raylet, *agents, "metrics-export-port")),
        f"--ray-client-server-port={client_port}",
    ]


def _wait_until_ready(head: Head) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    started = Path(head.temp_dir, "ray", "ray_current_cluster")  # the last thing that `ray start` writes
    while not (started.exists() and head.answers()):
        is_alive = head.is_alive()
        if not is_alive or time.monotonic() > deadline:
            log = Path(head.temp_dir, "head.log").read_text(encoding="utf-8", errors="replace")
            what = f"gave no answer in {START_TIMEOUT_S:.0f} s" if is_alive else "ended at once"
            raise RuntimeError(f"the Ray head {what}; the end of its log:\n{log[-3000:]}")
        time.sleep(0.1)


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
    raise RuntimeError(f"fewer than {count} free ports in {PORTS.start}-{PORTS.stop}")


def _die_with_parent() -> None:
    """Between fork and exec: the kernel ends the head if `local_head.py run` is killed."""
    pr_set_pdeathsig = 1  # linux/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
