"""The catalogue of bad inputs as a whole: every case has a check, every reason a line for users."""

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq

from painter_core.images.cells import image_of_cell
from painter_core.runs.flags import PairFlags, TableFlags
from painter_core.stages.precompute_codes import PrecomputeConfig
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import plan_units
from schemas.rejects import REASONS, WARNINGS
from tests.catalogue import (
    test_catalogue_parquet,
    test_catalogue_pictures,
    test_catalogue_rows,
    test_catalogue_tsv,
)
from tests.support.catalogue import GOOD, SIDE, b64, encoded, plain, table, write


def test_every_case_is_here() -> None:
    modules = (test_catalogue_pictures, test_catalogue_tsv, test_catalogue_parquet, test_catalogue_rows)
    numbers = {int(param.id[:3]) for module in modules for param in module.CASES}
    assert numbers == {*range(1, 63), 104, 105}


def test_every_reason_is_documented() -> None:
    doc = (Path(__file__).parents[2] / "docs" / "REJECTS.md").read_text(encoding="utf-8")
    listed = [line for line in doc.split("\n") if line.startswith("- `")]
    assert listed == [f"- `{name}`: {meaning}" for name, meaning in (REASONS | WARNINGS).items()]


def test_cells_of_rejects_can_be_given_again(tmp_path: Path) -> None:
    """docs/REJECTS.md: --keep-rejected, then --tables OUT/rejects --second-sequence cell."""
    text = "长" * 300
    path = write(tmp_path / "t.tsv", table(GOOD, f"1\t{text}\t{b64(encoded(plain(0, size=(8, 8))))}"))
    config = PrecomputeConfig(table=TableFlags(tables=str(path), outputs="x", keep_rejected=True))
    files, columns = find_files(str(path)), config.input.columns()
    (unit,) = plan_units(files, columns, micro_batch_size=16, limit=None)
    (row,) = UnitReader(files=files, columns=columns, stage="x", keep_rejected=True).read([unit])
    done = config.decoder(SIDE)(row)
    (tmp_path / "rejects").mkdir()
    pq.write_table(done.rejects, tmp_path / "rejects/part-000000.parquet")
    config = dataclasses.replace(config, input=PairFlags(second_sequence="cell"))
    files, columns = find_files(str(tmp_path / "rejects")), config.input.columns()
    (unit,) = plan_units(files, columns, micro_batch_size=16, limit=None)
    (row,) = UnitReader(files=files, columns=columns, stage="x", keep_rejected=False).read([unit])
    (line,) = row.table.to_pylist()
    assert (line["idx"], line["text"]) == ("1", text)
    assert image_of_cell(line["image"]).startswith(b"\x89PNG")
