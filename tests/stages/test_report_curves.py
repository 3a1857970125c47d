"""Curves of a training: where their points, lines and numbers stand."""

import math
import re

import numpy as np
import pytest

from painter_core.stages.report.curves import HEIGHT, MOST_POINTS, WIDTH, all_curves


def points(path: str) -> np.ndarray:
    """(N, 2) of an SVG path of lines."""
    return np.array([[float(n) for n in pair.split()] for pair in re.split("[ML]", path) if pair])


def test_a_point_stands_where_its_numbers_say() -> None:
    (found,) = all_curves(
        [{"step": 0, "train_loss": 2.0}, {"step": 50, "train_loss": 1.0}, {"step": 100, "train_loss": 1.5}]
    )
    assert found.title == "loss"
    line = points(found.lines[0].path)
    assert line[:, 0] == pytest.approx([0, WIDTH / 2, WIDTH])
    # 4 % of the range above and below
    assert line[:, 1] == pytest.approx(
        [HEIGHT * 0.04 / 1.08, HEIGHT * 1.04 / 1.08, HEIGHT * 0.54 / 1.08], abs=0.1
    )
    assert "first 2, last 1.5, lowest 1, highest 2" in found.lines[0].summary


def test_ticks_stand_beside_their_numbers() -> None:
    (found,) = all_curves([{"step": s, "lr": s / 1000} for s in range(0, 101, 10)])
    assert found.title == "learning rate"
    assert [text for _, text in found.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert found.x_ticks[1][0] == pytest.approx(WIDTH * 0.2)
    places = {text: place for place, text in found.y_ticks}
    line = points(found.lines[0].path)
    assert places["0.05"] == pytest.approx(line[5, 1], abs=0.1)


def test_many_points_become_means() -> None:
    (found,) = all_curves([{"step": s, "grad_norm": float(s % 2)} for s in range(5_000)])
    line = points(found.lines[0].path)
    assert len(line) == MOST_POINTS
    assert np.ptp(line[:, 1]) < HEIGHT / 10, "ups and downs cancel out"


def test_what_is_no_number_or_never_changes_is_left_out() -> None:
    lines = [
        {"step": s, "a": math.nan if s == 2 else s, "b": 7.0, "num_workers": s, "epoch": s} for s in (1, 2, 3)
    ]
    (found,) = all_curves(lines)
    assert found.measures == ("a",)
    assert len(points(found.lines[0].path)) == 2
    assert all_curves([]) == []


def test_one_validation_beside_many_steps_is_a_dash() -> None:
    lines = [{"step": s, "train_loss": float(s)} for s in (1, 2, 3)]
    (found,) = all_curves([*lines, {"step": 3, "valid_loss": 9.0}])
    assert [line.name for line in found.lines] == ["train loss", "valid loss"]
    assert [line.colour for line in found.lines] == [0, 1]
    assert found.lines[1].path.endswith("h8")
