"""How a training worker ends a run, and how its words reach the driver: without Ray."""

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from painter_core.errors import Changed, Stop
from painter_core.runs.ray_train import Workers
from painter_core.runs.worker_log import WorkerLines, heard
from painter_core.runs.worker_process import end_at_once, read_outcome


@dataclass
class Plan:
    root: str
    workers: Workers


def plan(root: Path, most: int = 1) -> dict[str, Any]:
    return {"plan": Plan(str(root), Workers(least=1, most=most, use_gpu=False, resize_interval_s=60))}


def raising(error: Exception, calls: list[int]) -> Callable[[dict[str, Any]], None]:
    def loop(config: dict[str, Any]) -> None:
        calls.append(1)
        raise error

    return loop


FINAL = [
    (OSError(errno.ENOSPC, "the disk is full"), 1, "the disk is full. Make room and submit again"),
    (OSError(errno.EDQUOT, "quota"), 1, "quota. Make room and submit again"),
    (Changed("m: gpt_sha256 is a, but"), 1, "m: gpt_sha256 is a, but"),
    (Stop(3, "5 of 9 rows cannot be used"), 3, "5 of 9 rows cannot be used"),
    (ValueError("part-000003.parquet: sha256 differs"), 1, "sha256 differs"),
]


@pytest.mark.parametrize(("error", "code", "message"), FINAL)
def test_what_would_come_again_ends_the_run_at_once(
    error: Exception, code: int, message: str, tmp_path: Path
) -> None:
    calls: list[int] = []
    loop = raising(error, calls)
    end_at_once(loop, plan(tmp_path))
    outcome = read_outcome(str(tmp_path))
    assert outcome["code"] == code
    assert message in outcome["error"]
    end_at_once(loop, plan(tmp_path))
    assert calls == [1], "an attempt after it does nothing"


def test_of_several_workers_the_others_are_ended_by_ray(tmp_path: Path) -> None:
    """They may wait for the one that failed: it raises, all are started again, and none begins."""
    calls: list[int] = []
    loop = raising(OSError(errno.ENOSPC, "full"), calls)
    with pytest.raises(OSError, match="full"):
        end_at_once(loop, plan(tmp_path, most=2))
    for _ in range(2):
        end_at_once(loop, plan(tmp_path, most=2))
    assert calls == [1]


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "a moment of the network"), RuntimeError("a bug"), ConnectionResetError()]
)
def test_what_may_pass_is_left_to_ray(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        end_at_once(raising(error, []), plan(tmp_path))
    assert read_outcome(str(tmp_path)) == {}


@pytest.fixture(params=["path", "url"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "path" else f"memory://{tmp_path.name}"


def test_a_run_in_a_store_leaves_its_outcome_there(store: type) -> None:
    calls: list[int] = []
    loop = raising(OSError(errno.ENOSPC, "full"), calls)
    of_store = {"plan": Plan("s3://bucket/model", plan(Path("m"))["plan"].workers)}
    with heard("s3://bucket/model", 0):
        end_at_once(loop, of_store)
    end_at_once(loop, of_store)
    assert (calls, read_outcome("s3://bucket/model")["code"]) == ([1], 1)


def test_the_driver_hears_its_workers(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest must not see the half character below: pytest-xdist could not send it in a report
    monkeypatch.setattr(logging.getLogger("painter_core"), "propagate", False)
    log, lines = logging.getLogger("painter_core.stages.test"), WorkerLines(root)
    assert list(lines.new()) == []
    with heard(root, 0):
        log.info("device %s", "cpu")
        assert list(lines.new()) == [(logging.INFO, "worker 0: device cpu")]
        log.warning("checkpoint x is not used\nfor it is damaged: 中文 \ud800")
    with heard(root, 1):
        log.info("rank 1 says this too")
        log.warning("only here")
    log.warning("to nobody")
    assert list(lines.new()) == [
        (logging.WARNING, "worker 0: checkpoint x is not used"),
        (logging.INFO, "worker 0: it is damaged: 中文 \\ud800"),
        (logging.WARNING, "worker 1: only here"),
    ]
    with heard(root, 0):
        log.info("a worker of the same rank, started again")
    assert list(lines.new()) == [(logging.INFO, "worker 0: a worker of the same rank, started again")]
