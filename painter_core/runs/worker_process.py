"""A training loop in a worker's process: its log reaches the driver, and an error that would only come again
ends the run, with its message, where Ray would start all workers three times more.
"""

import functools
import traceback
from collections.abc import Callable
from typing import Any

from painter_core.errors import Changed, Stop
from painter_core.files.cache import NO_ROOM
from painter_core.files.storage import filesystem, join, read_json
from painter_core.runs.worker_log import heard
from painter_core.training.output import write_outcome

Loop = Callable[[dict[str, Any]], None]


def in_worker(loop: Loop) -> Loop:
    """The loop as a worker of Ray Train runs it."""

    @functools.wraps(loop)
    def run(config: dict[str, Any]) -> None:
        import ray.train

        with heard(config["plan"].root, ray.train.get_context().get_world_rank()):
            end_at_once(loop, config)

    return run


def end_at_once(loop: Loop, config: dict[str, Any]) -> None:
    """Runs a loop; an error that would come again is left for the driver in outcome.json.

    Raises:
        Exception: another error; or this one too, if several workers run, of which some may wait for this
            one: Ray ends them all, and the next attempt finds outcome.json.
    """
    plan = config["plan"]
    if read_outcome(plan.root).get("error"):
        return
    try:
        loop(config)
    except (Changed, Stop, ValueError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError):
            if error.errno not in NO_ROOM:
                raise
            message += ". Make room and submit again: it goes on from the last checkpoint"
        traceback.print_exc()  # to Ray's own log of this worker
        write_outcome(plan.root, {"error": message, "code": error.code if isinstance(error, Stop) else 1})
        if plan.workers.most > 1:
            raise


def read_outcome(root: str) -> dict[str, Any]:
    """outcome.json: what the workers left for the driver; empty as long as they have not."""
    fs, path = filesystem(join(root, "_run", "outcome.json"))
    return read_json(fs, path) if fs.exists(path) else {}
