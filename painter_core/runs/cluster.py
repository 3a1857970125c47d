"""The Ray cluster that a job runs on."""

import atexit
import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile

# glibc gives a large tensor back to the system when it is freed and takes new pages, all zeroed, for the next
# one: up to half of a model's time on a CPU (benchmarks/RESULTS.md). It reads this when a process starts.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_ARENA_MAX": "1"}


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
