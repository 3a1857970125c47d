"""What is asked on nodes of the cluster before any work begins, and how long an answer is waited for.

A node's first answer may take minutes: a job that brings its packages along has them installed there first.
And a node that has died is called alive by Ray's head for up to 70 s.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
PATIENCE_S = 900.0  # for the first answer of a node: torch and its CUDA are several GB to install
NOTICE_S = 30.0  # then the log says what is waited for
LOOK_S = 2.0  # between two looks at which nodes are left


def node_name(node: Mapping[str, Any]) -> str:
    """A node of alive_nodes(), as messages name it."""
    return f"node {node['NodeManagerAddress']}"


def alive_nodes() -> dict[str, dict[str, Any]]:
    """The nodes of the cluster by id."""
    import ray

    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def ask_all(question: Callable[[], T], nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, T]:
    """The answers by the nodes' ids, without those of nodes that have left the cluster meanwhile.

    Raises:
        ValueError: a node gives no answer.
    """
    found, silent = ask(question, nodes, seconds=PATIENCE_S)
    if silent:
        raise ValueError(
            f"{', '.join(silent)}: no answer in {PATIENCE_S:.0f} s, though Ray calls it alive: "
            "look at it (`ray status`; /tmp/ray/session_latest/logs there, runtime_env_setup-*.log of what "
            "is installed), mend it or take it out of the cluster, and start the job again"
        )
    return found


def ask(
    question: Callable[[], T],
    nodes: Mapping[str, Mapping[str, Any]],
    *,
    seconds: float,
    num_gpus: float = 0.0,
) -> tuple[dict[str, T], list[str]]:
    """The answers by the nodes' ids, and the names of the nodes that gave none in time.

    Nodes that leave the cluster meanwhile are in neither; the log says so.

    Args:
        question: asked on each of them, in a process that needs no CPU.
        nodes: of alive_nodes().
        seconds: for all of them together.
        num_gpus: of each question.

    Raises:
        ValueError: the job's environment cannot be made on a node.
    """
    import ray

    left = {_sent(question, node, num_gpus): node for node in nodes}
    found: dict[str, T] = {}
    began, is_told = time.monotonic(), False
    while left and (waited := time.monotonic() - began) < seconds:
        ready, _ = ray.wait(list(left), num_returns=len(left), timeout=min(LOOK_S, seconds - waited))
        for answer in ready:
            node = left.pop(answer)
            try:
                found[node] = ray.get(answer)
            except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
                _pass_over(nodes[node])
            except ray.exceptions.RuntimeEnvSetupError as error:
                raise ValueError(
                    f"{node_name(nodes[node])}: the job's runtime environment cannot be made there: {error}"
                ) from error
        alive = alive_nodes()
        for answer in [answer for answer, node in left.items() if node not in alive]:
            _pass_over(nodes[left.pop(answer)])
        if left and not is_told and waited > NOTICE_S:
            is_told = True
            _say_who_is_waited_for([nodes[node] for node in left.values()], seconds)
    for answer in left:
        ray.cancel(answer)
    return found, [node_name(nodes[node]) for node in left.values()]


def _say_who_is_waited_for(nodes: list[Mapping[str, Any]], seconds: float) -> None:
    log.info(
        "waiting up to %.0f s for an answer of %s: packages are being installed there, or it is busy or dead",
        seconds,
        ", ".join(node_name(node) for node in nodes),
    )


def _pass_over(node: Mapping[str, Any]) -> None:
    log.warning("%s has left the cluster, and is passed over", node_name(node))


def _sent(question: Callable[[], T], node: str, num_gpus: float) -> Any:
    """The question on its way to a node; a process that had a part of a GPU ends with the answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def answer() -> T:  # Ray takes functions alone, and a question may be a partial one
        return question()

    remote: Any = ray.remote(num_cpus=0, num_gpus=num_gpus, max_calls=1 if num_gpus else 0)(answer)
    return remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
