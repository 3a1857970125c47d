"""The units of a table job on a cluster whose nodes come and go: in passes over what is left.

Ray itself goes on when a node is lost, as long as there is room for what ran there. Where it gives up, or
stands still (units wait for workers that no node has room for, requests to a dead node hang), the pass ends,
and another one begins over the units without a commit, on the cluster as it is then.
"""

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from painter_core.runs.node_watch import NodeWatch
from painter_core.tables.units import Unit

log = logging.getLogger(__name__)

PATIENCE_S = 30.0  # without a unit, if a node was lost; or twice the longest time between two units before
RECOVERY_S = 10.0  # in any case after the loss
MOST_BARREN = 3  # passes in a row in which no unit came out
_WAKE = signal.SIGUSR1
_MAIN_THREAD = threading.main_thread().ident or 0

Record = dict[str, Any]  # what PartWriter returns of a unit
OnePass = Callable[[list[Unit]], Iterator[Record]]


class _StoodStillError(Exception):
    """A node was lost, and since then no unit came out."""


def in_passes(
    units: list[Unit], one_pass: OnePass, committed: Callable[[list[Unit]], list[Record]]
) -> Iterator[Record]:
    """What is to be counted of every unit, as they come out; called and iterated in the main thread.

    Args:
        units: that are to be done.
        one_pass: does units on the cluster as it is.
        committed: those of some units that have a commit, since one may have been written whose news got lost
            with a node.

    Raises:
        RayError: workers fail, and no node is lost.
        RuntimeError: no unit came out in MOST_BARREN passes.
    """
    left, barren = {unit.number: unit for unit in units}, 0
    patience = _Patience()
    while left:
        before, failed = len(left), None
        nodes = NodeWatch(patience.idle_s, patience.check)
        try:
            with nodes:
                for record in patience.waiting(one_pass(list(left.values()))):
                    del left[record["unit"]]
                    yield record
            return
        except _signs_of_loss() as error:
            failed = _without_frames(error)  # they hold the workers of this pass
        gc.collect()
        if not isinstance(failed, _StoodStillError) and not nodes.wait_for_loss():
            raise failed
        for record in committed(list(left.values())):
            del left[record["unit"]]
            yield record
        barren = barren + 1 if len(left) == before else 0
        if barren == MOST_BARREN:
            raise RuntimeError(
                f"no unit came out in {barren} passes over the cluster, in each of which a node was lost; "
                f"the last one ended with {type(failed).__name__}: {failed}"
            )
        log.warning("%d units are left (%s): going on with the nodes that there are", len(left), failed)


class _Patience:
    """Ends the wait for the next unit when a node was lost and none came out for too long."""

    def __init__(self) -> None:
        self._longest = 0.0  # between two units
        self._last = time.monotonic()
        self._is_waiting = self._is_over = self._is_disturbed = False

    def waiting(self, records: Iterator[Record]) -> Iterator[Record]:
        """The records; _StoodStillError while the next one is waited for."""
        before = signal.signal(_WAKE, self._woken)
        self._last, self._is_over, is_first = time.monotonic(), False, True
        try:
            while (record := self._next(records)) is not None:
                if not is_first and not self._is_disturbed:  # before the first one workers start
                    self._longest = max(self._longest, self.idle_s())
                self._last, is_first = time.monotonic(), False
                yield record
        finally:
            signal.signal(_WAKE, before)

    def _next(self, records: Iterator[Record]) -> Record | None:
        self._is_waiting = True
        try:
            return next(records, None)
        finally:
            self._is_waiting = False

    def idle_s(self) -> float:
        """How long the next unit is waited for."""
        return time.monotonic() - self._last

    def check(self, nodes: NodeWatch) -> None:
        """In the watching thread, after a look at the nodes."""
        self._is_disturbed = nodes.is_disturbed
        if nodes.lost_s is None or not self._is_waiting:
            return
        had_time = time.monotonic() - nodes.lost_s > RECOVERY_S
        if had_time and self.idle_s() > max(PATIENCE_S, 2 * self._longest):
            self._is_over = True
            signal.pthread_kill(_MAIN_THREAD, _WAKE)

    def _woken(self, number: int, frame: FrameType | None) -> None:
        # a signal, since it wakes the main thread from whatever it waits for; elsewhere than in _next it may
        # come too late, and says nothing
        if self._is_over and self._is_waiting:
            self._is_over = False
            raise _StoodStillError("a node was lost, and no unit came out since then")


def _signs_of_loss() -> tuple[type[Exception], ...]:
    """What the loss of a node may look like."""
    from ray import exceptions

    return (
        _StoodStillError,
        exceptions.RayActorError,
        exceptions.ObjectLostError,
        exceptions.NodeDiedError,
        exceptions.WorkerCrashedError,
    )


def _without_frames(error: Exception) -> Exception:
    """The error, and what it came of, without their tracebacks."""
    inner: BaseException | None = error
    while inner is not None:
        inner.__traceback__ = None
        inner = inner.__cause__ or inner.__context__
    return error
