"""However a table is cut, and however often a run was killed: the same rows to the byte, the same score."""

import json
from pathlib import Path

import numpy as np
import pytest

from painter_core.tables.manifest import iter_parts
from tests.support.evaluation import judge, write_pictures
from tests.support.local_run import contents, faults, killed

ROWS = 9


@pytest.fixture(scope="module")
def flags(inception: Path, clip: Path, model: Path) -> dict[str, object]:
    return {
        "metrics": "fid,kid,is,clip,likelihood", "inception": str(inception), "clip": str(clip),
        "checkpoint_dir": str(model), "micro_batch_size": 2,
    }  # fmt: skip


@pytest.fixture(scope="module")
def reference(inception: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics of three pictures."""
    root = tmp_path_factory.mktemp("reference")
    table = write_pictures(root / "r.parquet", range(40, 43))
    judge(table, root / "kept", stats_only=True, inception=str(inception), micro_batch_size=2)
    return root / "kept"


def run(folder: Path, rows_a_group: int, reference: Path, flags: dict[str, object]) -> tuple[dict, bytes]:
    """Score and rows of the table, cut into units of so many rows."""
    table = folder / "pictures.parquet"
    if not table.exists():
        write_pictures(table, range(ROWS), rows_a_group=rows_a_group)
    score = judge(table, folder / "score", reference=str(reference), **flags)
    score["tables"][0]["rows"].pop("path")
    rows = b"".join(
        np.asarray(part.column(name).to_pylist()).tobytes()
        for part in [*_parts(folder / "score")]
        for name in ("idx", "inception", "clip_image", "clip_text", "bits_per_code")
    )
    return score, rows


def _parts(outputs: Path):
    """The whole table as one part."""
    import pyarrow as pa

    yield pa.concat_tables(iter_parts(str(outputs)))


def test_units_of_any_size_and_a_killed_run_give_the_same(
    reference: Path, flags: dict[str, object], tmp_path: Path
) -> None:
    found = {}
    for size in (1, 7, 512):
        (tmp_path / str(size)).mkdir()
        found[size] = run(tmp_path / str(size), size, reference, flags)
    assert len(list((tmp_path / "1" / "score").glob("part-*"))) == ROWS
    assert len(list((tmp_path / "512" / "score").glob("part-*"))) == 1
    assert found[1] == found[7] == found[512]
    assert found[1][0]["tables"][0]["fid"][0]["value"] > 0

    cut = tmp_path / "cut"
    cut.mkdir()
    write_pictures(cut / "pictures.parquet", range(ROWS), rows_a_group=7)
    assert killed(
        lambda: run(cut, 7, reference, flags), faults(tmp_path / "faults", "unit_counted:kill:1")
    ), "after the first unit of two"
    assert not (cut / "score" / "score.json").exists()
    assert run(cut, 7, reference, flags) == found[1]
    parts = [
        {n: d for n, d in contents(tmp_path / f / "score").items() if n.endswith("parquet")}
        for f in ("cut", "7")
    ]
    assert parts[0] == parts[1]
    first = (cut / "score" / "report.html").read_bytes()
    run(cut, 7, reference, flags)
    assert (cut / "score" / "report.html").read_bytes() == first
    assert json.loads((cut / "score" / "score.json").read_text())["tables"][0]["kid"]["subset_size"] == 3
