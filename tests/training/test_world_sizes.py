"""How many workers did which steps."""

import pytest

from painter_core.training.run_flags import TrainingRunFlags
from painter_core.training.world_sizes import continued, told


def test_a_history_grows_where_the_number_changes() -> None:
    history = continued([], 0, 3)
    assert history == [[0, 3]]
    assert continued(history, 400, 3) == history
    shrunk = continued(history, 400, 2)
    assert shrunk == [[0, 3], [400, 2]]
    assert history == [[0, 3]], "a checkpoint's own stays as it is"
    assert continued(shrunk, 450, 3) == [[0, 3], [400, 2], [450, 3]]


def test_it_is_told_in_words() -> None:
    assert told([[0, 3], [400, 1], [450, 2]], 500) == (
        "steps 1-400: 3 workers; 401-450: 1 worker; 451-500: 2 workers"
    )


def test_an_interval_needs_a_range_of_workers() -> None:
    assert TrainingRunFlags(num_workers="1,4", resize_interval=30).resize_interval == 30
    with pytest.raises(ValueError, match="--resize-interval 30: means nothing beside --num-workers 4"):
        TrainingRunFlags(num_workers="4", resize_interval=30)
    with pytest.raises(ValueError, match="--resize-interval"):
        TrainingRunFlags(num_workers="1,4", resize_interval=0)
