"""The Ray cluster that a job runs on."""

import atexit
import logging
import math
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass

from painter_core.compute.cpus import usable_cpus
from painter_core.runs import ray_messages
from painter_core.runs.address import check_address
from painter_core.runs.terminal import waiting

log = logging.getLogger(__name__)

# glibc gives a large tensor back to the system when it is freed and takes new pages, all zeroed, for the next
# one: up to half of a model's time on a CPU (benchmarks/RESULTS.md). It reads this when a process starts.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the whole cluster has."""

    cpus: float
    gpus: float
    memory_bytes: float
    nodes: int = 1
    """Nodes with CPUs."""
    can_grow: bool = False
    """Whether nodes may join: not to a local Ray."""


@dataclass(frozen=True, kw_only=True)
class GpuWait:
    """GPUs that a job waits for, where the cluster makes its nodes when they are wanted."""

    gpus: float
    seconds: float


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


def wanted_workers(
    flag: str,
    text: str | None,
    room: int,
    has: str,
    *,
    default: tuple[int, int],
    takes_less: bool = False,
) -> tuple[int, int]:
    """How many workers there are to be, at least and at most.

    Args:
        flag: for the message.
        text: its value, `N` or `MIN,MAX`.
        room: how many the cluster takes now.
        has: what the cluster has, for the message.
        default: without the flag.
        takes_less: one worker will do.

    Raises:
        ValueError: there is no room for the least. The most may exceed it: a cluster can grow.
    """
    least, most = parse_range(flag, text) or default
    if takes_less:
        least = max(1, min(least, room))
    if least > room:
        raise ValueError(f"{flag} {least}: the cluster has {has}")
    return least, most


def count_told(least: int, most: int, what: str) -> str:
    """`2 workers`, or `1 to 4 workers`."""
    count = str(most) if least == most else f"{least} to {most}"
    return f"{count} {what}{'' if most == 1 else 's'}"


def start_ray(wait: GpuWait | None = None) -> Cluster:
    """Connects to the cluster that the job was submitted to, or starts a local one on the loopback.

    Ray reads these variables when it is imported, so it is imported after they are set, here and nowhere
    before.

    Args:
        wait: GPUs that a cluster is given time to get; None waits for none.

    Raises:
        ValueError: no cluster answers where RAY_ADDRESS says.
    """
    submitted = "RAY_ADDRESS" in os.environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if not submitted:
        assert "ray" not in sys.modules
        _set_variables()
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # or a thread of Ray's that asks for something when the job has left it starts Ray, or connects, once more
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    ray_messages.set_variables()
    if submitted:
        check_address(os.environ.get("RAY_ADDRESS", ""))
    with waiting("connecting to Ray" if submitted else "starting Ray"), ray_messages.without_first_line():
        _connect(submitted)
    # `ray job stop` sends SIGTERM, and SIGKILL 3 s later; a handler from before ray.init() would never run
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cluster = present_cluster(can_grow=submitted)
    return cluster if wait is None else wait_for(cluster, wait)


def _connect(submitted: bool) -> None:
    """Connects to the cluster of the environment, or starts one."""
    import ray

    if submitted:
        ours = {name: value for name, value in os.environ.items() if name.startswith("PAINTER_")}
        # workers on other nodes know nothing of this process' environment
        ray.init(**ray_messages.options(), runtime_env={"env_vars": ours} if ours else None)
    else:
        quoted = shlex.quote(sys.executable)
        ray.init(
            address="local",
            # at least two: the stages of a table job share them
            num_cpus=max(2, usable_cpus()),
            include_dashboard=False,
            **ray_messages.options(),
            # Ray starts workers that have a runtime environment by an unquoted shell line: a path with a
            # space in it would hang them, and every training worker has one. Elsewhere none is given, since
            # the workers that Ray starts in advance are for jobs without one
            runtime_env=None if quoted == sys.executable else {"py_executable": quoted},
        )


def present_cluster(*, can_grow: bool) -> Cluster:
    """What the nodes that are alive have."""
    import ray

    found = ray.cluster_resources()
    return Cluster(
        cpus=found.get("CPU", 0),
        gpus=found.get("GPU", 0),
        memory_bytes=found.get("memory", 0),
        nodes=sum(node["Resources"].get("CPU", 0) > 0 for node in ray.nodes() if node["Alive"]),
        can_grow=can_grow,
    )


def wait_for(cluster: Cluster, wait: GpuWait) -> Cluster:
    """The cluster as soon as it has the GPUs that are waited for, or when the time is over.

    The cluster's autoscaler, if it has one, is asked for them.
    """
    from ray.autoscaler.sdk import request_resources

    if cluster.gpus >= wait.gpus or not cluster.can_grow:
        return cluster
    log.info("waiting up to %.0f s for %g GPUs; the cluster has %g", wait.seconds, wait.gpus, cluster.gpus)
    request_resources(bundles=[{"GPU": 1}] * math.ceil(wait.gpus))
    try:
        deadline = time.monotonic() + wait.seconds
        while cluster.gpus < wait.gpus and time.monotonic() < deadline:
            time.sleep(1.0)
            cluster = present_cluster(can_grow=True)
    finally:
        request_resources(bundles=[])  # else it would keep them when the job is done
    log.info("the cluster has %g GPUs", cluster.gpus)
    return cluster


def _set_variables() -> None:
    """The environment of a local Ray."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # else it listens on all addresses
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # until the end is seen: 2 by default
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process of its own
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
