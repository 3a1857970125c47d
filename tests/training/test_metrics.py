"""The lines of a run that was killed and taken up again are those of the unbroken run."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event, SessionLog

from painter_core.training.checkpoints import latest_checkpoint, save_checkpoint
from painter_core.training.metrics import MetricsLog
from painter_core.training.window import Window
from tests.support.local_run import faults, killed

STEPS, LOG_STEPS, SAVE_STEPS = 10, 4, 3  # logging does not divide saving


class Killed(Exception):
    """The process is gone."""


def train(root: Path, *, killed_at: str = "") -> None:
    """What a training loop does with its lines; ends at a place such as `9 saved`."""

    def pass_by(place: str) -> None:
        if f"{step} {place}" == killed_at:
            raise Killed

    step, window = 0, Window()
    if found := latest_checkpoint(root):
        state = torch.load(found / "state.pt", weights_only=True)
        step = state["step"]
        window.load_state(state["window"])
    metrics = MetricsLog(root, resume_step=step)
    while step < STEPS:
        step += 1
        window.add(1 / step, samples=2)
        if step % LOG_STEPS == 0 or step == STEPS:
            metrics.log(step, train_loss=window.loss())
            window = Window()
        pass_by("logged")
        if step % SAVE_STEPS == 0 or step == STEPS:
            metrics.log(step, valid_loss=10 / step)  # before the checkpoint: it is dropped without one
            pass_by("validated")
            state = {"step": step, "window": window.state()}
            save_checkpoint(root, step, lambda directory: torch.save(state, directory / "state.pt"), keep=2)  # noqa: B023
            pass_by("saved")


def lines(root: Path) -> list[dict]:
    found = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time_s"} for line in found]


@pytest.mark.parametrize("place", ["logged", "validated", "saved"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_killed_run_logs_what_the_unbroken_one_does(step: int, place: str, tmp_path: Path) -> None:
    train(tmp_path / "whole")
    expected = lines(tmp_path / "whole")
    assert [line["step"] for line in expected if "train_loss" in line] == [4, 8, 10]
    assert [line["step"] for line in expected if "valid_loss" in line] == [3, 6, 9, 10]
    try:
        train(tmp_path / "cut", killed_at=f"{step} {place}")
    except Killed:
        train(tmp_path / "cut")
    assert lines(tmp_path / "cut") == expected


def test_a_window_is_the_mean_and_the_speed_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    window = Window()
    for loss in (3.0, 1.0):
        clock[0] += 2.0
        window.add(loss, samples=8)
    clock[0] += 100.0  # a checkpoint is saved
    window.restart()
    clock[0] += 4.0
    window.add(2.0, samples=8)
    assert (window.loss(), window.speed()) == (2.0, 3.0)
    again = Window()
    again.load_state(json.loads(json.dumps(window.state())))
    clock[0] += 8.0
    again.add(6.0, samples=8)
    assert (again.loss(), again.speed()) == (3.0, 2.0)


def test_the_state_is_that_of_its_moment() -> None:
    window = Window()
    window.add(1.0, samples=1)
    state = window.state()
    window.add(2.0, samples=1)
    assert state["losses"] == [1.0]
    again = Window()
    again.load_state(state)
    again.add(3.0, samples=1)
    assert state["losses"] == [1.0]


def test_lines_of_other_steps_are_dropped_and_a_cut_one_with_them(tmp_path: Path) -> None:
    text = '{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a": 3}\n{"step": 4, "a'
    (tmp_path / "metrics.jsonl").write_text(text)
    MetricsLog(tmp_path, resume_step=2).log(3, a=4.0)
    assert lines(tmp_path) == [{"step": 1, "a": 1}, {"step": 2, "a": 2}, {"step": 3, "a": 4.0}]


def test_event_files_of_a_run_resumed_at_once_stand_beside_each_other(tmp_path: Path) -> None:
    for loss in (1.5, 2.5):
        log = MetricsLog(tmp_path)
        log.log(1, train_loss=loss)
        log.image(1, "valid/reconstruction", np.zeros((4, 4, 3), np.uint8))
        log.close()
    found = [events(path) for path in (tmp_path / "tensorboard").iterdir()]
    assert sorted(scalars for _, scalars, _ in found) == [[("train/loss", 1.5)], [("train/loss", 2.5)]]
    assert all((starts, images) == ([1], ["valid/reconstruction"]) for starts, _, images in found)


def events(path: Path) -> tuple[list[int], list[tuple[str, float]], list[str]]:
    """Steps at which a session starts, scalars and pictures of an event file of TensorBoard's."""
    starts, scalars, images = list[int](), list[tuple[str, float]](), list[str]()
    data = io.BytesIO(path.read_bytes())
    while header := data.read(12):  # length, and the sums of it and of what follows
        event = Event.FromString(data.read(int.from_bytes(header[:8], "little")))
        data.read(4)
        starts += [event.step] if event.session_log.status == SessionLog.START else []
        scalars += [(v.tag, v.simple_value) for v in event.summary.value if not v.HasField("image")]
        images += [v.tag for v in event.summary.value if v.HasField("image")]
    return starts, scalars, images


def test_a_kill_while_lines_are_dropped_loses_none_of_the_others(tmp_path: Path) -> None:
    text = "".join(f'{{"step": {step}, "a": 1}}\n' for step in range(1, 9))
    (tmp_path / "metrics.jsonl").write_text(text)
    fault = faults(tmp_path / "faults", "storage_write:kill:1")
    assert killed(lambda: MetricsLog(tmp_path, resume_step=5), fault)
    MetricsLog(tmp_path, resume_step=5)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]
