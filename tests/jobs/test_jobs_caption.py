"""caption.py on Ray: killed, taken up again and with two actors it writes what one process writes."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.jobs.test_jobs_sizes import killed_once
from tests.support.captioning import caption_table, config_of, write_captioner
from tests.support.jobs import Jobs, table_bytes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("is_killed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_actors_write_the_bytes_of_one(is_killed: bool, jobs: Jobs, write_pairs, tmp_path: Path) -> None:
    model, pairs = write_captioner(tmp_path / "model"), write_pairs(tmp_path / "pairs.tsv", 60)
    lines = pairs.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[17] = "r17\t红\tAAAA\n"
    pairs.write_text("".join(lines), encoding="utf-8")
    config = config_of(model, pairs, tmp_path / "here", top_k=20, max_generated_num=2, append_cols="text")
    caption_table(config)
    command = (
        "caption", "--tables", pairs, "--checkpoint-dir", model, "--outputs", tmp_path / "there",
        "--precision", "fp32", "--micro-batch-size", 4, "--max-reject-fraction", 0.5, "--num-actors", 2,
        "--top-k", 20, "--max-generated-num", 2, "--append-cols", "text",
    )  # fmt: skip
    if is_killed:
        killed_once(jobs, tmp_path / "counters", "unit_counted", *command)
    assert ("resuming" in jobs.run(*command)) == is_killed
    assert len(table_bytes(tmp_path / "there")) == 4
    assert table_bytes(tmp_path / "there") == table_bytes(tmp_path / "here")
    (reject,) = pq.read_table(tmp_path / "there" / "rejects").to_pylist()
    assert (reject["idx"], reject["reason"]) == ("r17", "img_unidentified")
