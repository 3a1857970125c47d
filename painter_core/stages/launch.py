"""Starting and ending a job: command line, paths, Ray, exit code.

Exit codes: 0 done; 1 a bug or a fault of the machine; 2 wrong flags or preflight, nothing written; 3
committed but over the ceiling of rejects; 4 the output exists or differs; 130 interrupted, submit again to
resume.
"""

import atexit
import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Literal, NoReturn, Self, TypeVar

import tyro

from painter_core.stages.commit import Refused
from painter_core.stages.easynlp_flags import Job, translate
from painter_core.stages.lock import RunLock
from painter_core.storage import absolute, is_local

log = logging.getLogger(__name__)

Config = TypeVar("Config")

_MAIN_THREAD = threading.main_thread().ident or 0
# glibc gives a large tensor back to the system when it is freed and takes new pages, all zeroed, for the next
# one: up to half of a model's time on a CPU (benchmarks/RESULTS.md). It reads this when a process starts.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_ARENA_MAX": "1"}
INTERRUPTED = "interrupted; submit the same command again to resume"


def parse_range(flag: str, text: str | None) -> tuple[int, int] | None:
    """`N` or `MIN,MAX` as (min, max)."""
    if text is None:
        return None
    try:
        low, high = ([int(t) for t in text.split(",")] * 2)[:2]
    except ValueError:
        low = high = 0
    if not 1 <= low <= high or text.count(",") > 1:
        raise ValueError(f"{flag}: got {text!r}, expected N or MIN,MAX, at least 1")
    return low, high


def parse(kind: type[Config], description: str | None, job: Job | None = None) -> Config:
    """The config of a job from the command line; a wrong flag or value ends the process with code 2.

    Args:
        kind: the config's class.
        description: for --help.
        job: the one of EasyNLP's that it stands for: its command lines are taken too.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    try:
        argv = translate(sys.argv[1:], job) if job else sys.argv[1:]
        return tyro.cli(kind, args=argv, description=description, config=(tyro.conf.OmitArgPrefixes,))
    except ValueError as error:
        fail(2, str(error))


def fail(code: int, message: str) -> NoReturn:
    """Ends the process; the code is in the message too, since `ray job submit` makes every failure a 1."""
    log.error("%s (exit code %d)", message, code)
    raise SystemExit(code)


def check_path(flag: str, path: str) -> None:
    """Refuses a relative path under `ray job submit`, where the working directory is a copy that is thrown
    away."""
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    for entry in (part.strip() for part in path.split(",")):
        if submitted and is_local(entry) and not os.path.isabs(entry):
            raise ValueError(
                f"{flag} {entry}: relative paths are refused under `ray job submit`, whose working directory "
                f'is thrown away; give the absolute path, for instance {flag} "$PWD/{entry}"'
            )


def name_for_workers(model: str) -> str:
    """A model's path or name such that workers find the same, whose working directory may be another one."""
    path = absolute(model)
    return path if model != "bundled" and os.path.exists(path) else model


def start_ray() -> None:
    """Connects to the cluster that the job was submitted to, or starts a local one on the loopback.

    Ray reads these variables when it is imported, so it is imported after they are set, here and nowhere
    before.
    """
    submitted = "RAY_ADDRESS" in os.environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if not submitted:
        assert "ray" not in sys.modules
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # else it listens on all addresses
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray ends workers that idle for a second: almost every task but a model's would start a process
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
        # nobody can see these without a dashboard, and every process of Ray's spends 1 % of a CPU on them
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
        os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
        for name, value in KEEP_MEMORY.items():
            os.environ.setdefault(name, value)
        if "RAY_AUTH_MODE" not in os.environ:
            # a token of this run's own: Ray would write one for all clusters to the home directory
            token = os.path.join(tempfile.mkdtemp(prefix="painter-"), "token")
            with open(os.open(token, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                file.write(os.urandom(32).hex())
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=token)
            atexit.register(shutil.rmtree, os.path.dirname(token), ignore_errors=True)
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray

    ours = {name: value for name, value in os.environ.items() if name.startswith("PAINTER_")}
    if submitted:
        # workers on other nodes know nothing of this process' environment
        ray.init(log_to_driver=False, runtime_env={"env_vars": ours} if ours else None)
    else:
        cpus = max(2, os.cpu_count() or 2)
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            # Ray starts workers that have a runtime environment by an unquoted shell line: a path with a
            # space in it would hang them, and every training worker has one
            runtime_env={"py_executable": shlex.quote(sys.executable)},
        )
    # `ray job stop` sends SIGTERM, and SIGKILL 3 s later; a handler from before ray.init() would never run
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def cluster_resources() -> dict[str, float]:
    """CPU, GPU and memory of the whole cluster."""
    import ray

    return ray.cluster_resources()


class Stop(Exception):
    """The run ends early with this exit code; what is committed stays.

    Args:
        code: exit code.
        message: for the log and the summary.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Complete(SystemExit):
    """There is nothing to do: the output is complete."""


class Outcome:
    """Context of a job: turns the way it ends into a summary and an exit code, and gives back its lock."""

    def __init__(self) -> None:
        self._write: Callable[[int, str, float], None] | None = None
        self._lock: RunLock | None = None
        self._lost = ""
        self._handlers: dict[int, Any] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def lock(self, url: str) -> None:
        """Makes sure that no other driver writes to an output, from here to the end.

        Raises:
            Refused: another one does.
        """
        lock = RunLock(url, self._stop)
        lock.acquire()
        self._lock = lock

    def _stop(self, message: str) -> None:
        self._lost, self._write = message, None
        # a real signal: it wakes the main thread, whatever that waits for
        signal.pthread_kill(_MAIN_THREAD, signal.SIGINT)

    def began(self, write: Callable[[int, str, float], None]) -> None:
        """From here on the run has written something: its end goes to `write(code, message, seconds)`."""
        self._write = write
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        # at once: what follows, Ray's own end too, may take longer than the sender of the signal waits
        if self._write is not None:
            self._write(130, INTERRUPTED, self.seconds)
        raise KeyboardInterrupt

    def ended(self) -> None:
        """What began() announced is done, and its summary is written; the process goes on with another
        part."""
        if self._write is not None:
            self._write(0, "", self.seconds)
        self._write, self._began = None, time.monotonic()
        self._unlock()

    def _unlock(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    @property
    def seconds(self) -> float:
        """Since the start, or since the last part ended."""
        return time.monotonic() - self._began

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        code, message = self._code(error)
        try:
            if self._write is not None:
                self._write(code, message[:2000], self.seconds)
        finally:
            if "ray" in sys.modules:
                sys.modules["ray"].shutdown()
            self._unlock()  # last: until here our workers may write
        if code not in (0, 1):
            fail(code, message)
        return False  # code 1: the traceback is the message

    def _code(self, error: BaseException | None) -> tuple[int, str]:
        if self._lost:
            return 4, self._lost
        if error is None:
            return 0, ""
        if isinstance(error, Stop):
            return error.code, str(error)
        if isinstance(error, SystemExit):
            return int(error.code or 0), ""
        if isinstance(error, KeyboardInterrupt):
            return 130, INTERRUPTED
        if isinstance(error, Refused):
            return 4, str(error)
        if isinstance(error, ValueError) and self._write is None:
            return 2, str(error)
        cause = getattr(error, "cause", None) or error  # of an error that Ray hands on from a worker
        return 1, f"{type(cause).__name__}: {cause}"
