"""What a terminal's display holds, drawn by rich into 40, 80 and 120 columns."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from painter_core.runs.table_view import TableView
from painter_core.runs.training_progress import TrainingProgress
from painter_core.runs.training_view import BLOCKS, TrainingView, curve

TABLE = TableView(
    stage="precompute", steps=("read", "decode_all", "EncodePictures", "write"), units=(1_250, 2_000),
    rows=(640_000, 1_024_000), rejected={"img_truncated": 900, "text_empty": 80, "a": 3, "b": 2, "c": 1},
    rows_per_s=512.0, workers="2 workers", idle_s=1.0,
)  # fmt: skip
TRAINING = TrainingView(
    step=250, num_steps=1_000, losses=[8.0, 7.0, 6.0, 5.0],
    values={"valid_loss": 5.5, "samples_per_s": 320.0},
    steps_per_s=10.0, workers="1 worker", waited_s=9.0,
)  # fmt: skip


def drawn(view: object, columns: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=columns, force_terminal=False, highlight=False).print(view)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def changed(view: TableView, **values: object) -> TableView:
    return TableView(**{**vars(view), **values})


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_nothing_is_wider_than_the_terminal(columns: int) -> None:
    for view in (TABLE, TRAINING):
        assert max(map(len, drawn(view, columns))) <= columns


def test_a_table_in_80_columns() -> None:
    head, counts, *_ = drawn(TABLE, 80)
    assert head.startswith("precompute ━")
    assert head.endswith("62%, 0:12:30 left")
    assert counts == "  640,000 of 1,024,000 rows · unit 1,250 of 2,000 · 512.0 rows/s · 2 workers"


def test_a_table_in_120_columns() -> None:
    _, _, rejects, steps = drawn(TABLE, 120)
    assert rejects == "  986 rejected (0.2%): 900 img_truncated, 80 text_empty, 3 a, 2 b, 1 reasons more"
    assert steps == "  read → decode all → encode pictures → write"


def test_before_the_first_unit_and_when_none_comes_out() -> None:
    before = changed(TABLE, units=(0, 7), rows=(0, 100), rejected={}, rows_per_s=0.0, idle_s=8.0)
    lines = drawn(before, 80)
    assert lines[0].endswith("0%")
    assert "rows/s" not in lines[1]
    assert lines[2] == "  none rejected"
    assert lines[-1] == "  workers start: 8 s"
    assert drawn(changed(TABLE, idle_s=45.0), 120)[-1] == "  no unit came out for 45 s"


def test_a_training() -> None:
    head, step, loss, values = drawn(TRAINING, 80)
    assert head.endswith("25%, 0:01:15 left")
    assert step == "  step 250 of 1,000 · 10 steps/s · 1 worker"
    assert loss == "  loss 5  █▆▃▁"
    assert values == "  valid loss 5.5 · samples/s 320"


def test_a_curve_is_as_long_as_it_may_be_and_shows_means() -> None:
    assert curve([1.0]) == BLOCKS[0]
    assert len(curve([float(i) for i in range(1_000)], 30)) == 30
    assert curve([0.0, 2.0, 4.0, 6.0], 2) == BLOCKS[0] + BLOCKS[-1]


def test_a_training_that_goes_on_shows_what_stands_there(tmp_path: Path) -> None:
    lines = [{"step": s, "train_loss": 9.0 - s} for s in (1, 2, 3, 4)]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "tr')  # cut by a kill
    found = TrainingProgress(str(tmp_path), 10, save_steps=5, resize_interval_s=None, workers="2 workers")
    assert (found.view().step, found.view().losses) == (4, [8.0, 7.0, 6.0, 5.0])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines[:2]))  # the run resumes at step 2
    found.show()
    assert found.view().losses == [8.0, 7.0]
    with file.open("a") as out:
        out.write(json.dumps({"step": 3, "train_loss": 1.0, "num_workers": 4}) + "\n")
    found.show()
    assert (found.view().losses, found.view().workers) == ([8.0, 7.0, 1.0], "4 workers")
