"""Runs of jobs/upscale.py without Ray: killed and resumed, other settings, a dry run, sizes of units."""

import logging
from pathlib import Path

import pytest

from painter_core.runs.flags import TableFlags
from painter_core.runs.run import Run
from painter_core.runs.table_run import TableRun
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.stages.upscale.run import parts_of, steps_of, table_job
from painter_core.stages.upscale.source import find_source
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.units import cut_units, find_slices
from painter_core.upscaling.flags import UpscaleFlags
from painter_core.upscaling.upscaler import plan_upscaler
from tests.support.jobs import sample_cell
from tests.support.local_run import ALONE, code_of, faults, killed, rows_of
from tests.support.upscaling import enlarge_table

ROWS = 40


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TSV of 40 pictures in three units; row 8 is broken."""
    path = tmp_path_factory.mktemp("pictures") / "in.tsv"
    lines = (f"p{i}\t文 {i}\t{'AAAA' if i == 7 else sample_cell(i % 5)}\n" for i in range(ROWS))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def config(tables: Path, outputs: Path, scale: int = 2, **flags: object) -> UpscaleConfig:
    table = TableFlags(tables=str(tables), outputs=str(outputs), max_reject_fraction=0.5, **flags)
    return UpscaleConfig(table=table, upscaling=UpscaleFlags(upscale=scale))


@pytest.mark.parametrize("fault", ["planned:kill:1", "part_written:kill:2", "unit_committed:kill:1",
                                   "storage_write:kill:5", "manifest_begins:kill:1"])  # fmt: skip
def test_a_killed_run_goes_on_as_if_undisturbed(fault: str, pictures: Path, tmp_path: Path) -> None:
    given = config(pictures, tmp_path / "out.tsv")
    assert killed(lambda: enlarge_table(given), faults(tmp_path / "faults", fault))
    assert enlarge_table(given).num_rows == ROWS - 1
    other = config(pictures, tmp_path / "undisturbed" / "out.tsv")
    enlarge_table(other)
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "undisturbed" / "out.tsv").read_bytes()
    found, expected = (rows_of(Path(f"{c.table.outputs}.run")) for c in (given, other))
    assert found == expected
    assert len([name for name in expected if name.startswith("part-")]) == 3


def test_other_settings_are_another_table(pictures: Path, tmp_path: Path) -> None:
    enlarge_table(config(pictures, tmp_path / "out"))
    before = rows_of(tmp_path / "out")
    assert code_of(lambda: enlarge_table(config(pictures, tmp_path / "out", 4))) == 4
    assert rows_of(tmp_path / "out") == before
    enlarge_table(config(pictures, tmp_path / "out", 4, overwrite=True))
    assert rows_of(tmp_path / "out") != before


def test_a_dry_run_writes_nothing_and_knows_the_size(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    given = config(pictures, tmp_path / "out", 4, dry_run=True)
    with Run({}) as run:
        upscaler, source = plan_upscaler(given.upscaling), find_source(given)
        table = TableRun(table_job(given, source, upscaler), run, ALONE)
        table.execute(*steps_of(given, source, upscaler, table), parts=parts_of(source))
    assert not (tmp_path / "out").exists()
    enlarge_table(config(pictures, tmp_path / "real", 4))
    size = sum(path.stat().st_size for path in (tmp_path / "real").glob("part-*.parquet"))
    (told,) = [m for m in caplog.messages if "MB of output" in m]
    assert float(told.split(", ")[-1].split()[0]) == pytest.approx(size / 1e6, rel=0.1, abs=0.1)


def test_units_are_smaller_where_pictures_grow(pictures: Path, tmp_path: Path) -> None:
    """544 rows of 8 kB: a unit of 32 rows may hold 256 MiB, or as much less as its rows will grow."""
    for scale in (2, 4):
        given = config(pictures, tmp_path / "out", scale)
        job = table_job(given, find_source(given), plan_upscaler(given.upscaling))
        assert job.growth == 4 * scale**2
        assert job.row_bytes == scale**2 * (pictures.stat().st_size // ROWS)
    (tmp_path / "in.tsv").write_text("".join(f"p{i}\t{'A' * 8000}\n" for i in range(544)))
    slices = find_slices(find_files(str(tmp_path / "in.tsv")), Columns(schema=("idx", "text")))
    found = {
        growth: cut_units(slices, micro_batch_size=1, limit=None, growth=growth)[0].num_rows
        for growth in (1, 1024, 2048)
    }
    assert found == {1: 32, 1024: 32, 2048: 16}


def test_flags_that_do_nothing_are_refused() -> None:
    table = TableFlags(tables="t", outputs="o")
    with pytest.raises(ValueError, match=r"^--upscale: not given, expected 2 or 4; or --upscaler FILE"):
        UpscaleConfig(table=table)
    for flags, message in (
        ({"num_actors": "2"}, "--num-actors: does nothing without --upscaler FILE"),
        ({"gpus_per_actor": 1.0}, "--gpus-per-actor: does nothing without --upscaler FILE"),
    ):
        with pytest.raises(ValueError, match=message):
            UpscaleConfig(table=table, upscaling=UpscaleFlags(upscale=2), **flags)
    with pytest.raises(ValueError, match="--upscale-tile: does nothing without --upscaler FILE"):
        UpscaleFlags(upscale=2, upscale_tile=128)
    with pytest.raises(ValueError, match="--upscale: got 3, expected 2 or 4"):
        UpscaleFlags(upscale=3)
