"""python -m tests.support.nodes NODES OUT ACTION@COMMITS,... COMMAND: a job on a cluster of several nodes of
this machine, to which something happens when OUT has so many commits.

The head has no CPUs, every other node two. `kill` ends all processes of the first node at once, `freeze`
stops them without closing a connection, as a node does whose power or network is gone; `add` starts one more
node. Ends with the job's exit code.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.jobs import ROOT

from process_table import descendants, read_processes  # isort: skip  in cluster/

TIMEOUT_S = 240


def of_own_ray(*paths: Path, **more: str) -> dict[str, str]:
    """The environment of processes that know no cluster, and may start one on the loopback.

    Args:
        paths: more of PYTHONPATH.
        more: variables.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PAINTER_"))}
    given = [ROOT, *paths, *filter(None, clean.get("PYTHONPATH", "").split(os.pathsep))]
    clean |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    clean |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # keeps it on the loopback
    return clean | {"PYTHONPATH": os.pathsep.join(map(str, given))} | more


def start(nodes: int, out: Path, actions: str, command: list[object], **environment: str) -> str:
    """What a job printed that ran so; fails unless it ends with 0."""
    code, printed = run(nodes, out, actions, command, **environment)
    assert code == 0, printed
    return printed


def run(nodes: int, out: Path, actions: str, command: list[object], **environment: str) -> tuple[int, str]:
    """Exit code of a job that ran so, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.nodes", str(nodes), out, actions, *map(str, command)],
        env=of_own_ray(RAY_worker_niceness="0", **environment), cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S + 60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def main(nodes: int, out: Path, actions: list[str], command: list[str]) -> int:
    """Starts the cluster and the job, and does the actions."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    raylets = [add_node(cluster) for _ in range(nodes)]
    frozen: set[int] = set()
    job = subprocess.Popen([sys.executable, *command], env=os.environ | {"RAY_ADDRESS": cluster.address})
    deadline = time.monotonic() + TIMEOUT_S
    try:
        for action, _, commits in (one.partition("@") for one in actions):
            while len(list(out.glob("_run/commits/[0-9]*.json"))) < int(commits):
                assert job.poll() is None, "it was over before"
                assert time.monotonic() < deadline
                time.sleep(0.02)
            print(time.strftime("%H:%M:%S"), f"{action} at {commits} commits", flush=True)
            if action == "add":
                raylets.append(add_node(cluster))
                continue
            victim = raylets.pop(0)
            family = {victim, *descendants(victim, read_processes())}
            frozen |= family if action == "freeze" else set()
            for pid in family:
                os.kill(pid, signal.SIGKILL if action == "kill" else signal.SIGSTOP)
        return job.wait(max(1, deadline - time.monotonic()))
    finally:
        job.kill()
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)
        cluster.shutdown()


def add_node(cluster: object) -> int:
    """Starts a node, and returns its raylet's process."""
    node = cluster.add_node(num_cpus=2)  # type: ignore[attr-defined]
    return node.all_processes["raylet"][0].process.pid


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","), sys.argv[4:]))
