"""Workers of a training: what one takes of a node, and what the log says of them."""

import json
import logging
from pathlib import Path

import pytest

from painter_core.compute.cpus import usable_cpus
from painter_core.runs.cluster import Cluster
from painter_core.runs.ray_train import find_workers, threads_of_a_worker, worker_variables
from painter_core.runs.training_progress import TrainingProgress
from painter_core.training.run_flags import TrainingRunFlags

FOUR_CPUS = Cluster(cpus=4, gpus=0, memory_bytes=2**33)
TWO_GPUS = Cluster(cpus=4, gpus=2, memory_bytes=2**33)


@pytest.mark.parametrize(
    ("number", "cluster", "resources"),
    [
        ("2", FOUR_CPUS, {"CPU": 0.75}),
        ("1,3", FOUR_CPUS, {"CPU": 1}),  # Ray divides a node's CPUs by it
        ("1,2", TWO_GPUS, {"GPU": 1, "CPU": 1}),
    ],
)
def test_elastic_workers_take_whole_cpus(number: str, cluster: Cluster, resources: dict) -> None:
    assert find_workers(TrainingRunFlags(num_workers=number), cluster).resources == resources


def test_threads_are_those_of_the_node() -> None:
    """Of the CPUs that Ray gives out there and that the process may use, the fewer, shared by its workers."""
    here = usable_cpus()
    assert threads_of_a_worker(1, 1.0) == 1, "a node of one CPU on a machine of several"
    assert threads_of_a_worker(1, 1000.0) == here
    assert threads_of_a_worker(here, 1000.0) == 1
    assert threads_of_a_worker(2, 0.0) == 1


def test_how_threads_wait_is_the_users_if_they_say() -> None:
    assert worker_variables({"PATH": "/bin"}).keys() == {"GOMP_SPINCOUNT"}
    assert worker_variables({"OMP_WAIT_POLICY": "ACTIVE"}) == worker_variables({"GOMP_SPINCOUNT": "1"}) == {}


def test_the_most_do_not_depend_on_what_is_there_at_the_start() -> None:
    """Or the global batch would, and a cluster that grows could not be used."""
    found = find_workers(TrainingRunFlags(num_workers="1,16"), FOUR_CPUS)
    assert (found.least, found.most, found.are_elastic) == (1, 16, True)
    with pytest.raises(ValueError, match="--num-workers 5: the cluster has 4 CPUs"):
        find_workers(TrainingRunFlags(num_workers="5,16"), FOUR_CPUS)


def test_what_no_worker_gets_is_counted() -> None:
    """GPUs; or nodes where CPUs train, since a worker takes all of its node. The log warns of them."""
    nodes = Cluster(cpus=12, gpus=0, memory_bytes=2**33, nodes=3)
    assert find_workers(TrainingRunFlags(), nodes).unused == 2
    assert find_workers(TrainingRunFlags(num_workers="2,3"), nodes).unused == 0
    assert find_workers(TrainingRunFlags(), TWO_GPUS).unused == 1
    assert find_workers(TrainingRunFlags(num_workers="2"), TWO_GPUS).unused == 0


def test_the_interval_is_a_minute_or_what_is_given() -> None:
    assert find_workers(TrainingRunFlags(num_workers="1,3"), FOUR_CPUS).resize_interval_s == 60
    flags = TrainingRunFlags(num_workers="1,3", resize_interval=5)
    assert find_workers(flags, FOUR_CPUS).resize_interval_s == 5


def follow(root: Path, save_steps: int, monkeypatch: pytest.MonkeyPatch, *, most: int = 3) -> None:
    """What the driver prints of ten steps of a second each, the last five by fewer workers."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    interval_s = 60 if most > 1 else None
    follower = TrainingProgress(
        str(root), 100, save_steps=save_steps, resize_interval_s=interval_s, workers="2 workers"
    )
    for step in range(1, 11):
        clock[0] += 1
        with (root / "metrics.jsonl").open("a") as file:
            number = (3 if step <= 5 else 2) if most > 1 else 1
            file.write(json.dumps({"step": step, "train_loss": 1.0, "num_workers": number}) + "\n")
        follower.show()


def test_the_log_says_when_workers_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    follow(tmp_path, 50, monkeypatch)
    assert caplog.text.count("2 workers now, 3 before") == 1
    assert "done again" not in caplog.text


def test_checkpoints_that_are_rarer_than_the_interval_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    follow(tmp_path, 600, monkeypatch)
    assert caplog.text.count("a checkpoint every 600 steps is one in 600 s, --resize-interval is 60 s") == 1
    assert "--save-checkpoint-steps 60 would do" in caplog.text


def test_workers_that_stay_are_not_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    follow(tmp_path, 600, monkeypatch, most=1)
    assert "a checkpoint every" not in caplog.text
