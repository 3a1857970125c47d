"""However a table is cut, and however often a run was killed: the same rows to the byte, the same score."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from painter_core.tables.manifest import iter_parts
from tests.support.evaluation import judge, write_pictures
from tests.support.local_run import contents, faults, killed

ROWS = 5
VECTORS = ("inception", "clip_image", "clip_text", "bits_per_code")


@pytest.fixture(scope="module")
def flags(clip: Path, model: Path) -> dict[str, object]:
    """Flags of the judges that take little time."""
    return {"clip": str(clip), "checkpoint_dir": str(model), "micro_batch_size": 2}


@pytest.fixture(scope="module")
def reference(inception: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics of two pictures."""
    root = tmp_path_factory.mktemp("reference")
    table = write_pictures(root / "r.parquet", range(40, 42))
    judge(table, root / "kept", stats_only=True, inception=str(inception), micro_batch_size=2)
    return root / "kept"


def rows_of(outputs: Path) -> dict[str, bytes]:
    """What was computed of each picture, in the order of the table."""
    table = pa.concat_tables(iter_parts(str(outputs)))
    return {name: np.asarray(table.column(name).to_pylist()).tobytes() for name in ("idx", *VECTORS)}


@pytest.mark.long
def test_units_of_any_size_give_the_same(
    reference: Path, inception: Path, flags: dict[str, object], tmp_path: Path
) -> None:
    rows, scores = {}, {}
    for size in (1, 3, 512):
        folder = tmp_path / str(size)
        folder.mkdir()
        table = write_pictures(folder / "pictures.parquet", range(ROWS), rows_a_group=size)
        scores[size] = judge(
            table, folder / "score", metrics="fid,kid,is,clip,likelihood", inception=str(inception),
            reference=str(reference), **flags,
        )["tables"][0]  # fmt: skip
        scores[size]["rows"].pop("path")
        rows[size] = rows_of(folder / "score")
        assert len(list((folder / "score").glob("part-*"))) == -(-ROWS // size)
    assert rows[1] == rows[3] == rows[512]
    assert scores[1] == scores[3] == scores[512]
    assert scores[1]["fid"][0]["value"] > 0
    assert scores[1]["kid"]["subset_size"] == 2


def test_a_killed_run_goes_on_to_the_same_bytes(flags: dict[str, object], tmp_path: Path) -> None:
    table = write_pictures(tmp_path / "pictures.parquet", range(ROWS), rows_a_group=2)
    judge(table, tmp_path / "whole" / "score", metrics="clip,likelihood", **flags)
    outputs = tmp_path / "cut" / "score"
    environment = faults(tmp_path / "faults", "unit_counted:kill:2")
    assert killed(lambda: judge(table, outputs, metrics="clip,likelihood", **flags), environment)
    assert len(list(outputs.glob("part-*"))) == 2
    assert not (outputs / "score.json").exists()
    judge(table, outputs, metrics="clip,likelihood", **flags)
    whole, cut = (contents(tmp_path / name / "score") for name in ("whole", "cut"))
    made = {name for name in whole if name.startswith(("part-", "score", "report"))}
    assert len(made) == 3 + 4
    assert {name: cut[name] for name in made} == {name: whole[name] for name in made}
