"""Torn and tampered files (T13, T14): named by --verify, and refused by whoever reads next."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.model_files.open import open_model
from painter_core.stages.codes_table import codes_manifest, open_samples, open_vqgan
from painter_core.stages.inspect_table.verify import find_problems
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.manifest import finish, iter_parts, read_records
from painter_core.tables.reader import UnitReader
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.units import plan_units
from painter_core.text.tokenizer import builtin_tokenizer
from tests.support.codes_table import make_codes
from tests.support.jobs import ROOT, sample_cell
from tests.tables.test_commit import finished, make_plan, write_units

sys.path.insert(0, str(ROOT / "jobs"))
import inspect_table

PART, REJECTS, RECORD = "part-000001.parquet", "rejects/part-000000.parquet", "_run/commits/000001.json"
WEIGHTS = "_run/vqgan/vqgan.safetensors"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, write_pairs, tiny_vqgan: Path) -> Path:
    """A finished codes table of three units, with a reject."""
    root = tmp_path_factory.mktemp("damage")
    pairs = write_pairs(root / "pairs.tsv", 40)
    lines = pairs.read_text().split("\n")
    lines[3] = "r3\tx\t!!"
    pairs.write_text("\n".join(lines))
    return make_codes(pairs, tiny_vqgan, root / "codes")


@pytest.fixture
def copy(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAINTER_CACHE", str(tmp_path / "cache"))  # or the cache would be right
    return shutil.copytree(table, tmp_path / "codes")


def flip(path: Path, at: float = 0.5) -> None:
    """One bit, near the middle."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(bytes(data))


def flip_number(path: Path) -> None:
    """One digit of a JSON file: it stays JSON."""
    text = path.read_text()
    path.write_text(text.replace('"rows_in": 1', '"rows_in": 2', 1).replace('"bytes": 1', '"bytes": 2', 1))
    assert path.read_text() != text


DAMAGE = {
    "flipped part": (PART, flip),
    "cut part": (PART, lambda p: p.write_bytes(p.read_bytes()[:-7])),
    "zero-byte part": (PART, lambda p: p.write_bytes(b"")),
    "missing part": (PART, Path.unlink),
    "flipped rejects": (REJECTS, flip),
    "missing rejects": (REJECTS, Path.unlink),
    "changed record": (RECORD, flip_number),
    "cut record": (RECORD, lambda p: p.write_bytes(p.read_bytes()[:-9])),
    "missing record": (RECORD, Path.unlink),
    "changed manifest": ("manifest.json", flip_number),
    "zero-byte manifest": ("manifest.json", lambda p: p.write_bytes(b"")),
    "changed plan": (
        "_run/plan.json",
        lambda p: p.write_text(p.read_text().replace("bilinear", "antialias")),
    ),
    "flipped weights": (WEIGHTS, flip),
    "missing weights": (WEIGHTS, Path.unlink),
    "missing _SUCCESS": ("_SUCCESS", Path.unlink),
    "surplus part": ("part-000009.parquet", lambda p: p.write_bytes(b"x")),
    "surplus rejects": ("rejects/part-000001.parquet", lambda p: p.write_bytes(b"x")),
    "surplus file": ("virus.exe", lambda p: p.write_bytes(b"x")),
}
HARMLESS = {"flipped rejects", "missing rejects", "changed record", "cut record", "changed plan"} | {
    name for name in DAMAGE if name.startswith("surplus") or name == "missing _SUCCESS"
}


def test_an_undamaged_table_has_no_problems(table: Path) -> None:
    assert find_problems(str(table)) == []
    assert find_problems(str(table) + "/") == []


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name: str, copy: Path) -> None:
    file, damage = DAMAGE[name]
    damage(copy / file)
    problems = find_problems(str(copy))
    assert any(line.startswith(str(copy / file)) for line in problems), problems
    assert len(problems) <= 3, problems  # and not every other file with it


def read_all(table: Path) -> None:
    """What training, galleries and evaluation do with a codes table before they use it."""
    codes_manifest(str(table))
    open_samples(str(table), builtin_tokenizer(), text_len=16, codebook_size=64)
    open_vqgan(str(table)).load_vqgan()
    list(iter_parts(str(table)))
    columns = Columns(schema=("idx", "text"))
    files = find_files(str(table))
    reader = UnitReader(files=files, columns=columns, stage="test", keep_rejected=False)
    list(reader.read(plan_units(files, columns, micro_batch_size=16, limit=None)))


@pytest.mark.parametrize("name", sorted(DAMAGE.keys() - HARMLESS))
def test_damage_is_refused_by_the_next_stage(name: str, copy: Path) -> None:
    file, damage = DAMAGE[name]
    damage(copy / file)
    with pytest.raises(ValueError, match=r".") as caught:
        read_all(copy)
    assert str(copy / file) in str(caught.value)


def test_rows_are_not_touched_by_other_damage(table: Path, copy: Path) -> None:
    """What HARMLESS names lies beside the rows: the next stage reads the same as ever."""
    for name in HARMLESS:
        file, damage = DAMAGE[name]
        if (copy / file).exists() or "surplus" in name:
            damage(copy / file)
    read_all(copy)
    assert [t.to_pylist() for t in iter_parts(str(copy))] == [t.to_pylist() for t in iter_parts(str(table))]


def test_every_bit_of_a_part_counts(copy: Path) -> None:
    """The reader of --tables too, which reads pieces of other people's files."""
    columns, path = Columns(schema=("idx", "text")), copy / PART
    whole = path.read_bytes()
    files = find_files(str(copy))
    reader = UnitReader(files=files, columns=columns, stage="test", keep_rejected=False)
    units = plan_units(files, columns, micro_batch_size=16, limit=None)
    (unit,) = (u for u in units if files[u.file].path == str(path))
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=rf"{PART}: sha256 differs from the manifest"):
            list(reader.read([unit]))


def test_resuming_over_a_changed_record_is_refused(tmp_path: Path, write_pairs, tiny_vqgan: Path) -> None:
    out = make_codes(write_pairs(tmp_path / "p.tsv", 40), tiny_vqgan, tmp_path / "codes", units=2)
    flip_number(out / RECORD)
    with pytest.raises(ValueError, match=r"000001\.json: its content does not fit its seal"):
        RunDirectory(str(out)).read_record(1)


def test_model_directories(tiny_vqgan: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_vqgan, tmp_path / "model")
    assert find_problems(str(model)) == []
    flip(model / "vqgan.safetensors")
    assert [line.split(": ")[0] for line in find_problems(str(model))] == [str(model / "vqgan.safetensors")]
    for read in (lambda: open_model(str(model)).load_vqgan(), lambda: open_model(str(model)).vqgan_sha256()):
        with pytest.raises(ValueError, match=r"vqgan\.safetensors is damaged \(sha256 differs\)"):
            read()
    (model / "checkpoint.json").write_text("{}")
    assert "holds no sums" in find_problems(str(model))[0]
    (model / "checkpoint.json").unlink()
    assert "missing" in find_problems(str(model))[0]
    (model / "more.bin").write_bytes(b"x")
    shutil.copy(tiny_vqgan / "checkpoint.json", model)
    shutil.copy(tiny_vqgan / "vqgan.safetensors", model)
    assert [line.split(": ")[0] for line in find_problems(str(model))] == [str(model / "more.bin")]


@pytest.mark.parametrize("suffix", [".tsv", ".parquet"])
def test_a_single_file_is_compared_with_its_parts(suffix: str, tmp_path: Path) -> None:
    finished(tmp_path, f"out{suffix}")
    out = tmp_path / f"out{suffix}"
    assert find_problems(str(out)) == []
    whole = out.read_bytes()
    for damaged in (whole[:-1], whole.replace(b"1", b"2", 1), b""):
        out.write_bytes(damaged)
        assert [line.split(": ")[0] for line in find_problems(str(out))] == [str(out)]
    out.unlink()
    assert find_problems(str(out)) == [f"{out}: missing"]


def test_a_torn_part_is_found_when_the_table_is_finished(tmp_path: Path) -> None:
    """A part that was committed by an earlier run, and is not what it was."""
    plan, directory = make_plan(tmp_path), RunDirectory(str(tmp_path / "out"))
    write_units(directory, plan)
    part = tmp_path / "out" / PART
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(ValueError, match=rf"{PART}: \d+ bytes, but it was committed with"):
        finish(directory, plan, read_records(directory, plan), {})
    part.unlink()  # as the message says
    write_units(directory, plan, [u.number for u in plan.units if u.number not in directory.committed()])
    finish(directory, plan, read_records(directory, plan), {})


def test_the_job_ends_with_3(copy: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    report = copy.parent / "report.json"
    flags = ["inspect_table.py", "--tables", str(copy), "--verify", "--json", str(report)]
    monkeypatch.setattr(sys, "argv", flags)
    inspect_table.main()
    assert json.loads(report.read_text())["problems"] == []
    flip(copy / PART)
    with pytest.raises(SystemExit, match="3"):
        inspect_table.main()
    assert f"{copy / PART}: damaged (sha256 differs)" in capsys.readouterr().out
    assert json.loads(report.read_text())["problems"] == [f"{copy / PART}: damaged (sha256 differs)"]


# --- T13: a bad Parquet file among good ones ----------------------------------------------------------


def write_parquet(path: Path, **changes: object) -> None:
    rows = {"idx": ["1", "2"], "text": ["红", "绿"], "imgbase64": [sample_cell(0)] * 2} | changes
    pq.write_table(pa.table({name: column for name, column in rows.items() if column is not None}), path)


def pickled(path: Path) -> None:
    payload = b"cos\nsystem\n(S'touch " + str(path.parent / "ran").encode() + b"'\ntR."
    extension = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}
    field = pa.field("text", pa.binary(), metadata=extension)
    schema = pa.schema([("idx", pa.string()), field, ("imgbase64", pa.string())])
    arrays = [pa.array(["1"]), pa.array([payload]), pa.array([sample_cell(0)])]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def cut(path: Path) -> None:
    write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "zero bytes": (lambda p: p.write_bytes(b""), "the file is empty"),
    "truncated": (cut, "not a whole Parquet file"),
    "mixed schema": (lambda p: write_parquet(p, text=[0.5, 1.5]), "column 'text'"),
    "missing column": (lambda p: write_parquet(p, imgbase64=None), "column 'imgbase64'"),
    "pickled type": (pickled, "extension type"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_among_good_ones(name: str, tmp_path: Path, monkeypatch, capsys, caplog) -> None:
    """T13: refused before any row is read, with the file and the column, by every entry point."""
    write, said = BAD[name]
    for good in ("a", "c"):
        write_parquet(tmp_path / f"{good}.parquet")
    write(tmp_path / "b.parquet")
    columns = Columns(schema=("idx", "text", "imgbase64"), image="imgbase64")
    with pytest.raises(ValueError, match=rf"b\.parquet: .*{said}"):
        plan_units(find_files(str(tmp_path)), columns, micro_batch_size=1, limit=None)
    monkeypatch.setattr(sys, "argv", ["inspect_table.py", "--tables", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        inspect_table.main()
    assert "b.parquet" in caplog.text
    assert not (tmp_path / "ran").exists()
