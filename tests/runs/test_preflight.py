"""What is found out before any work, and that nothing is left of it (cases 82, 91, 92, 93, 103; T10)."""

import sys
from pathlib import Path

import pytest

from painter_core.files.storage import write_bytes
from painter_core.runs import nodes, preflight
from painter_core.runs.dry_run import run_sample
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts
from painter_core.runs.training_run import TrainingRun
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.units import plan_units
from painter_core.training.run_flags import TrainingRunFlags
from tests.support.fake_store import FakeStore
from tests.support.local_run import code_of, contents, faults, idx_and_text, run_here, write_input
from tests.tables.test_commit import COLUMNS, make_plan


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_input(tmp_path / "in.tsv")


def test_places_that_cannot_be_written(table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = contents(tmp_path)
    for output in ("/proc/out", "/sys/out/deep", table / "out"):
        assert code_of(lambda output=output: run_here(table, output)) == 2
        assert f"--outputs {output}: cannot be written" in caplog.text
        training = TrainingRun("train", "--checkpoint-dir", str(output), Run({}))
        with pytest.raises(ValueError, match=rf"--checkpoint-dir {output}: cannot be written"):
            training.take_up({"a": 1}, {}, TrainingRunFlags(), needed_bytes=0, reads=[])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", ["EACCES", "EROFS", "ENOSPC"])
def test_file_systems_that_refuse(
    error: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").mkdir()
    for number in (1, 2):  # beside the output, in it
        for name, value in faults(
            tmp_path.parent / f"{error}{number}", f"storage_write:{error}:{number}"
        ).items():
            monkeypatch.setenv(name, value)
        assert code_of(lambda: run_here(table, tmp_path / "out")) == 2
        assert f"{tmp_path}/out: cannot be written" in caplog.text
    assert sorted(contents(tmp_path)) == ["in.tsv"]


def test_a_missing_parent_is_made_and_a_dry_run_makes_nothing(table: Path, tmp_path: Path) -> None:
    preflight.check_writable("--outputs", f"{tmp_path}/a/b/out")
    assert [p.name for p in tmp_path.iterdir()] == ["in.tsv"]
    table.chmod(0o444)
    run_here(table, tmp_path / "a" / "b" / "out")
    assert (tmp_path / "a" / "b" / "out" / "_SUCCESS").exists()


def test_an_input_that_is_denied(
    store: type[FakeStore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    FakeStore().pipe_file("s3://bucket/in.tsv", b"1\t2\n")
    monkeypatch.setattr(FakeStore, "denied", ("/in.tsv",))
    assert code_of(lambda: run_here("s3://bucket/in.tsv", tmp_path / "out")) == 2
    assert "s3://bucket/in.tsv" in caplog.text
    assert not list(tmp_path.iterdir())


def test_too_little_space(tmp_path: Path) -> None:
    preflight.check_space("--outputs", f"{tmp_path}/a/b", 1000)
    preflight.check_space("--outputs", "s3://bucket/out", 1e18)
    with pytest.raises(ValueError, match=r"--outputs .*/a/b: about 931,322,574\.6 GiB .* GiB are free"):
        preflight.check_space("--outputs", f"{tmp_path}/a/b", 1e18)


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_a_sample_does_fifty_rows(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    plan = make_plan(tmp_path)
    if suffix == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = ["" if i % 10 == 7 else f"文 {i}" for i in range(100)]
        pq.write_table(
            pa.table({"idx": [str(i) for i in range(100)], "text": texts}), tmp_path / "in.parquet"
        )
        files = find_files(str(tmp_path / "in.parquet"))
        units = plan_units(files, Columns(schema=("idx", "text")), micro_batch_size=16, limit=None)
        plan = type(plan)(stage="test", identity={}, settings={}, files=files, units=units)
    reader = UnitReader(files=plan.files, columns=COLUMNS, stage="test", keep_rejected=False)
    before = contents(tmp_path)
    needed = run_sample(plan, reader, [], Parts(build=idx_and_text), num_workers=2)
    assert contents(tmp_path) == before
    assert "sample of 50 rows in this process: 45 out, 5 rejected {'text_empty': 5}" in caplog.text
    assert "all 100 rows: about 0 s with 2 workers" in caplog.text
    assert 1_000 < needed < 100_000


def test_what_a_node_does_not_see(tmp_path: Path) -> None:
    right, wrong, plain = tmp_path / "a.probe", tmp_path / "b.probe", tmp_path / "in.tsv"
    write_bytes(*RunDirectory(str(tmp_path)).path("a.probe"), b"token")
    wrong.write_text("other")
    plain.write_text("1")
    missing = tmp_path / "missing"
    seen = [p for p in (right, wrong, plain, missing, tmp_path) if nodes.sees(str(p), "token")]
    assert seen == [right, plain, tmp_path]


def look(used: float, free_bytes: int) -> nodes.Look:
    return nodes.Look(unseen=[], versions={}, temp_dir="/tmp/ray", used=used, free_bytes=free_bytes)


def test_room_for_what_ray_spills(caplog: pytest.LogCaptureFixture) -> None:
    nodes.check_room("node 1", look(0.94, 2**20))
    assert not caplog.text
    nodes.check_room("node 1", look(0.96, 40 * 2**30))
    assert "node 1: the disk of Ray's temporary directory /tmp/ray is 96% full, 40.0 GiB" in caplog.text
    with pytest.raises(ValueError, match=r"Make room, or start Ray with another --temp-dir \(RAY_TMPDIR"):
        nodes.check_room("node 1", look(0.999, 2**20))


def test_versions_are_of_what_makes_bytes() -> None:
    import torch

    found = nodes.versions()
    assert found["torch"] == torch.__version__.partition("+")[0]
    assert found["python"] == ".".join(map(str, sys.version_info[:2]))
