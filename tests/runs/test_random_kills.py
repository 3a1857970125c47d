"""Random kills under --overwrite with changing settings: the last table is that of an undisturbed run."""

import random
from pathlib import Path

import pytest

from tests.support.local_run import code_of, faults, killed, rows_of, run_here, write_input

POINTS = (
    "planned", "part_written", "unit_committed", "storage_write", "storage_written", "manifest_begins",
    "manifest_written", "replacement_cleared", "replacement_moving", "replacement_moved",
)  # fmt: skip
KILLS = 6


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", ["out", "out.tsv"])
def test_the_last_run_is_as_if_undisturbed(number: int, name: str, tmp_path: Path) -> None:
    table, out, draw = write_input(tmp_path / "in.tsv"), tmp_path / name, random.Random(number)
    directory = Path(f"{out}.run") if name.endswith(".tsv") else out
    died = 0
    for attempt in range(KILLS):
        seed = draw.choice((1, 2))
        fault = f"{draw.choice(POINTS)}:kill:{draw.choice((1, 1, 2, 5))}"
        dies = faults(tmp_path / f"faults{attempt}", fault)
        died += killed(lambda seed=seed: run_here(table, out, seed=seed, overwrite=True), dies)
    assert died, "some kill was met"
    assert code_of(lambda: run_here(table, out, seed=3, overwrite=True)) == 0
    other = tmp_path / "undisturbed" / name
    run_here(table, other, seed=3)
    assert rows_of(directory) == rows_of(Path(f"{other}.run") if name.endswith(".tsv") else other)
    if name.endswith(".tsv"):
        assert out.read_bytes() == other.read_bytes()
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith("out")}
    assert left == {out.name, directory.name}, "no lock, nothing beside"
