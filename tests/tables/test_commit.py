"""Parts, commit records, manifest, single files: what a run leaves, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.errors import Refused
from painter_core.files.storage import sha256
from painter_core.runs.replacement import clear
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.manifest import finish, read_records
from painter_core.tables.parquet import parquet_bytes
from painter_core.tables.part_writer import PartWriter
from painter_core.tables.plan import Plan, differences
from painter_core.tables.reader import UnitReader
from painter_core.tables.records import seal
from painter_core.tables.run_directory import OURS, RunDirectory, part_name
from painter_core.tables.unit_row import UnitRow
from painter_core.tables.units import plan_units
from tests.support.local_run import table_place

COLUMNS = Columns(schema=("idx", "text"))
ROWS = 100


def make_plan(root: Path, seed: int = 1) -> Plan:
    """A plan over a TSV of 100 rows, of which rows 8, 18, ... are rejected."""
    lines = [f"{i}\t{'' if i % 10 == 7 else f'文 {i}'}" for i in range(ROWS)]
    (root / "in.tsv").write_text("\n".join(lines) + "\n")
    files = find_files(str(root / "in.tsv"))
    units = plan_units(files, COLUMNS, micro_batch_size=16, limit=None)
    return Plan(stage="test", identity={"seed": seed}, settings={"n": 1}, files=files, units=units)


def idx_and_text(row: UnitRow) -> pa.Table:
    """The part of a unit."""
    return row.table.select(["idx", "text"])


def write_units(directory: RunDirectory, plan: Plan, numbers: list[int] | None = None) -> list[dict]:
    """Reads and commits units; what the driver gets."""
    reader = UnitReader(files=plan.files, columns=COLUMNS, stage="test", keep_rejected=False)
    writer = PartWriter(directory=directory, build=idx_and_text)
    units = [u for u in plan.units if numbers is None or u.number in numbers]
    return [writer(row) for row in reader.read(units)]


def finished(root: Path, name: str = "out") -> tuple[RunDirectory, Plan]:
    """A finished table."""
    plan, directory = make_plan(root), RunDirectory(str(root / name))
    directory.write_json(plan.to_json(), "_run", "plan.json")
    write_units(directory, plan)
    finish(directory, plan, read_records(directory, plan), {"table": "test"})
    return directory, plan


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a directory."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def without_times(files: dict[str, bytes]) -> dict[str, object]:
    """Commit records without how long they took."""
    return {
        name: {k: v for k, v in json.loads(data).items() if not k.endswith("_s") and k != "seal"}
        if "commits" in name
        else data
        for name, data in files.items()
    }


def test_a_finished_table(tmp_path: Path) -> None:
    _, plan = finished(tmp_path)
    out = tmp_path / "out"
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["rows_in"], manifest["rows_out"], manifest["rows_rejected"]) == (100, 90, 10)
    assert manifest["rejected"] == {"text_empty": 10}
    assert manifest["fingerprint"] == plan.fingerprint
    assert manifest["table"] == "test"
    for part, unit in zip(manifest["parts"], plan.units, strict=True):
        data = (out / part["name"]).read_bytes()
        assert part == {
            "name": part_name(unit.number),
            "rows": pq.read_metadata(out / part["name"]).num_rows,
            "bytes": len(data),
            "sha256": sha256(data),
        }
    rows = pa.concat_tables([pq.read_table(out / part["name"]) for part in manifest["parts"]])
    assert rows["idx"].to_pylist() == [str(i) for i in range(ROWS) if i % 10 != 7]
    rejects = pa.concat_tables([pq.read_table(p) for p in sorted((out / "rejects").glob("*.parquet"))])
    assert rejects["row"].to_pylist() == list(range(8, 101, 10))
    assert set(rejects["file"].to_pylist()) == {str(tmp_path / "in.tsv")}
    assert (out / "_SUCCESS").stat().st_mtime_ns >= (out / "manifest.json").stat().st_mtime_ns
    assert len(find_files(str(out))) == len(plan.units)


def test_parts_are_the_same_bytes_when_written_again(tmp_path: Path) -> None:
    directory, plan = finished(tmp_path)
    first = contents(tmp_path / "out")
    write_units(directory, plan, [3, 1])
    assert without_times(contents(tmp_path / "out")) == without_times(first)
    # and in another order, in another directory
    other = RunDirectory(str(tmp_path / "other"))
    for number in reversed(range(len(plan.units))):
        write_units(other, plan, [number])
    again = contents(tmp_path / "other")
    assert {n: d for n, d in again.items() if n.endswith(".parquet")} == {
        n: d for n, d in first.items() if n.endswith(".parquet")
    }


def test_the_commit_record_is_last(tmp_path: Path) -> None:
    plan, directory = make_plan(tmp_path), RunDirectory(str(tmp_path / "out"))
    write_units(directory, plan, [0])
    part, record = tmp_path / "out/part-000000.parquet", tmp_path / "out/_run/commits/000000.json"
    reject = tmp_path / "out/rejects/part-000000.parquet"
    assert reject.stat().st_mtime_ns <= part.stat().st_mtime_ns <= record.stat().st_mtime_ns
    assert directory.committed() == {0}
    (tmp_path / "out/part-000001.parquet").mkdir()  # where the part is to go
    with pytest.raises(OSError, match="part-000001"):
        write_units(directory, plan, [1])
    assert directory.committed() == {0}
    assert not list((tmp_path / "out").glob(".*"))  # no temporary file is left


def test_units_without_a_record_are_not_done(tmp_path: Path) -> None:
    plan, directory = make_plan(tmp_path), RunDirectory(str(tmp_path / "out.tsv"))
    records = write_units(directory, plan, [0, 2])
    assert [r["unit"] for r in records] == [0, 2]
    assert sum(r["rows_in"] for r in records) == 32
    with pytest.raises(
        RuntimeError, match=f"{len(plan.units) - 2} of {len(plan.units)} units .* the first is 1"
    ):
        finish(directory, plan, read_records(directory, plan), {})
    assert sorted(p.name for p in (tmp_path / "out.tsv.run").iterdir()) == [
        "_run", "part-000000.parquet", "part-000002.parquet", "rejects"
    ]  # fmt: skip
    assert not (tmp_path / "out.tsv").exists()
    with pytest.raises(ValueError, match="not finished"):
        find_files(str(tmp_path / "out.tsv.run"))


def test_a_lost_row_is_a_bug(tmp_path: Path) -> None:
    plan, directory = make_plan(tmp_path), RunDirectory(str(tmp_path / "out"))
    reader = UnitReader(files=plan.files, columns=COLUMNS, stage="test", keep_rejected=False)
    (row,) = reader.read(plan.units[:1])
    writer = PartWriter(directory=directory, build=idx_and_text)
    with pytest.raises(RuntimeError, match="unit 0: 17 rows in, 15 out, 1 rejected: a row was lost"):
        writer(dataclasses.replace(row, rows_in=17))
    assert directory.committed() == set()


def test_records_that_do_not_add_up_are_a_bug(tmp_path: Path) -> None:
    plan, directory = make_plan(tmp_path), RunDirectory(str(tmp_path / "out"))
    write_units(directory, plan)
    path = tmp_path / "out/_run/commits/000001.json"
    path.write_text(json.dumps(seal(json.loads(path.read_text()) | {"rows_in": 17})))
    with pytest.raises(RuntimeError, match="the sums do not agree: 101 in, 90 out, 10 rejected"):
        finish(directory, plan, read_records(directory, plan), {})
    path.write_text("{")
    with pytest.raises(ValueError, match=r"000001\.json: not JSON"):
        finish(directory, plan, read_records(directory, plan), {})
    assert not (tmp_path / "out/manifest.json").exists()


@pytest.mark.parametrize("name", ["out", "a b [1] 中文 #1 {x}*?"])
@pytest.mark.parametrize("suffix", [".tsv", ".parquet"])
def test_single_files_are_in_input_order(name: str, suffix: str, tmp_path: Path) -> None:
    directory, plan = finished(tmp_path, name + suffix)
    assert directory.single_file == suffix
    path = tmp_path / (name + suffix)
    if suffix == ".tsv":
        rows = [line.split("\t") for line in path.read_text().removesuffix("\n").split("\n")]
    else:
        table = pq.read_table(path)
        rows = [list(row.values()) for row in table.to_pylist()]
    assert rows == [[str(i), f"文 {i}"] for i in range(ROWS) if i % 10 != 7]
    before = path.read_bytes()
    finish(directory, plan, read_records(directory, plan), {})
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["in.tsv", name + suffix, name + suffix + ".run"]
    )


def test_other_peoples_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.doc").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "pictures.tsv").write_text("x")
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    for name, message in (
        ("full", "thesis.doc"),
        ("file", "is a file"),
        ("pictures.tsv", "was not made by this"),
    ):
        with pytest.raises(Refused, match=message):
            table_place(tmp_path / name).check_foreign()
        clear(*RunDirectory(str(tmp_path / name)).path(), OURS)
    table_place(tmp_path / "empty").check_foreign()
    table_place(tmp_path / "new/deep.tsv").check_foreign()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["out", "out.tsv"])
def test_clear_removes_only_what_is_ours(name: str, tmp_path: Path) -> None:
    directory, _ = finished(tmp_path, name)
    table_place(tmp_path / name).check_foreign()
    root = Path(directory.url)
    (root / "notes.txt").write_text("mine")
    (root / "part-1.parquet").write_text("mine")
    (root / "sub").mkdir()
    (root / "sub/part-000000.parquet").write_text("mine")
    clear(*directory.path(), OURS)
    assert set(contents(tmp_path)) == {
        *({"out.tsv"} if name == "out.tsv" else {}),
        "in.tsv",
        f"{root.name}/notes.txt",
        f"{root.name}/part-1.parquet",
        f"{root.name}/sub/part-000000.parquet",
    }


def test_a_plan_is_recognised(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    directory = RunDirectory(str(tmp_path / "out"))
    directory.write_json(plan.to_json(), "_run", "plan.json")
    stored = directory.read_json("_run", "plan.json")

    def found(**changes: object) -> list[str]:
        return differences(stored, dataclasses.replace(plan, **changes).to_json())

    assert found() == []
    assert found(identity={"seed": 2}, settings={"n": 1, "m": "x"}) == [
        "seed: was 1, is 2", "m: was None, is 'x'"
    ]  # fmt: skip
    assert dataclasses.replace(plan, identity={"seed": 2}).fingerprint != plan.fingerprint
    assert found(stage="other") == ["stage: was 'test', is 'other'"]
    (tmp_path / "in.tsv").write_text("1\tanders\n")
    assert found(files=find_files(str(tmp_path / "in.tsv"))) == ["files changed"]
    assert found(units=plan.units[:1]) == [], "a run goes on with the units of its plan"


def test_fingerprints_are_fixed(tmp_path: Path) -> None:
    identity = {"stage": "x", "seed": 42, "sampling": {"top_k": 100, "top_p": 1.0}}
    plan = dataclasses.replace(make_plan(tmp_path), identity=identity)
    assert plan.fingerprint == "c10b90b0d3cb345c92181152c2c2a5aa47c7fa20779fee293da76993bfc07483"
    assert (
        dataclasses.replace(plan, identity=dict(reversed(identity.items()))).fingerprint == plan.fingerprint
    )


def test_parquet_bytes_have_page_checksums() -> None:
    data = bytearray(parquet_bytes(pa.table({"codes": pa.array(list(range(1000)), pa.uint16())})))
    data[100] ^= 4
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pq.read_table(pa.BufferReader(bytes(data)), page_checksum_verification=True)
