"""Which nodes of the cluster are lost or join while something runs on it.

Ray's head calls a node dead when it has missed some looks at it, 10 to 70 s after its end. Until then work is
still sent to it, so whoever begins anew waits for that.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from painter_core.runs.address import problem

log = logging.getLogger(__name__)

LOOK_S = 2.0  # between two looks at the nodes
DEATH_S = 120.0  # in which the head finds out that a node does not answer
QUIET_S = 15.0  # without progress, then the nodes are asked whether they live
ANSWER_S = 3.0  # for a node to take a connection


class NodeWatch:
    """Context: the nodes from its beginning on; each one that is lost or joins is a line of the log.

    Args:
        idle_s: for how long nothing was done.
        on_look: called with this in the watching thread after every look.
    """

    def __init__(self, idle_s: Callable[[], float], on_look: Callable[["NodeWatch"], None]) -> None:
        self._idle_s, self._on_look = idle_s, on_look
        self._silent: set[str] = set()  # of these the log has said so
        self._known = _alive()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="nodes", daemon=True)
        self.lost_s: float | None = None
        """When the last loss was seen, by time.monotonic(); None if no node was lost."""

    @property
    def is_disturbed(self) -> bool:
        """Whether a node was lost or silent."""
        return self.lost_s is not None or bool(self._silent)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._look()
            if self._idle_s() > QUIET_S:
                self._name_silent()
            self._on_look(self)

    def _look(self) -> None:
        found = _alive()
        for node in self._known.keys() - found.keys():
            self.lost_s = time.monotonic()
            log.warning(
                "%s is lost%s; %d nodes are left, and what it was doing is done again",
                _describe(self._known[node]),
                _reason(node),
                len(found),
            )
        for node in found.keys() - self._known.keys():
            log.info("%s joined; there are %d nodes", _describe(found[node]), len(found))
        self._known = found

    def wait_for_loss(self) -> bool:
        """After the context, and after a failure: whether a node was lost.

        A node that takes no connection is waited for until the head calls it dead, or until it answers.
        """
        deadline = time.monotonic() + DEATH_S
        while time.monotonic() < deadline:
            self._look()
            if self.lost_s is not None:
                return True
            if not self._name_silent():
                return False
            time.sleep(LOOK_S / 4)
        return True

    def _name_silent(self) -> int:
        """How many nodes do not answer; the log names each once."""
        nodes = list(self._known.values())
        with ThreadPoolExecutor(16) as pool:
            mute = [node for node, is_mute in zip(nodes, pool.map(_is_silent, nodes), strict=True) if is_mute]
        for node in mute:
            if node["NodeID"] not in self._silent:
                self._silent.add(node["NodeID"])
                log.warning("%s does not answer; the cluster's head has not given it up yet", _describe(node))
        return len(mute)


def _alive() -> dict[str, dict[str, Any]]:
    """The nodes by id."""
    import ray

    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _describe(node: dict[str, Any]) -> str:
    return f"node {node['NodeManagerAddress']} ({node['NodeManagerHostname']}, {node['NodeID'][:8]})"


def _reason(node_id: str) -> str:
    """What the head says of a node's end, if it says something."""
    import ray

    for node in ray.nodes():
        if node["NodeID"] == node_id and (said := node.get("DeathReasonMessage")):
            return f" ({said})"
    return ""


def _is_silent(node: dict[str, Any]) -> bool:
    return bool(problem(node["NodeManagerAddress"], node["NodeManagerPort"], ANSWER_S))
