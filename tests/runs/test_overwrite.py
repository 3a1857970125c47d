"""--overwrite leaves the old data as they are until the new ones are complete, wherever it is killed (T11).

Also: a run that is killed anywhere, or whose disk is full at any write, is taken up again to the same rows
(T2, T9).
"""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from painter_core.errors import Refused
from painter_core.runs.run import Run
from painter_core.runs.training_run import TrainingRun
from painter_core.tables.manifest import iter_parts
from painter_core.training.run_flags import TrainingRunFlags
from tests.support.local_run import code_of, contents, faults, killed, rows_of, run_here, write_input

NAMES = ["out", "out.tsv", "out.parquet"]
REPLACING = [
    *(f"storage_write:{n}" for n in (2, 3, 4, 20, 25)),  # 1 is the lock's place, tried out
    "planned:1", "part_written:1", "unit_committed:3", "unit_counted:7", "manifest_begins:1",
    "manifest_written:1",
    "replacement_cleared:1", *(f"replacement_moving:{n}" for n in range(1, 13)), "replacement_moved:1",
]  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_input(tmp_path_factory.mktemp("in") / "in.tsv")


@pytest.fixture(scope="module")
def undisturbed(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By seed, what a run that nothing disturbs leaves."""
    made = {seed: tmp_path_factory.mktemp("whole") / "out.tsv" for seed in (1, 2)}
    for seed, out in made.items():
        run_here(table, out, seed=seed)
    return made


def directory_of(output: Path) -> Path:
    return output if output.suffix == "" else output.with_name(output.name + ".run")


def seed_of(output: Path) -> int:
    """Whose rows a table holds; fails unless it is whole."""
    assert sum(len(part) for part in iter_parts(str(output))) > 0
    manifest = json.loads((directory_of(output) / "manifest.json").read_text())
    rows = sum(len(part) for part in iter_parts(str(output)))
    if output.suffix == ".tsv":
        assert len(output.read_text().splitlines()) == rows
    return manifest["identity"]["seed"]


@pytest.mark.parametrize("name", NAMES)
def test_old_data_stay_until_the_new_are_complete(name: str, table: Path, tmp_path: Path) -> None:
    out = tmp_path / name
    run_here(table, out)
    (directory_of(out) / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    assert code_of(lambda: run_here(table, out, seed=2)) == 4
    assert contents(tmp_path) == before
    assert killed(
        lambda: run_here(table, out, seed=2, overwrite=True), faults(tmp_path / "f", "unit_counted:kill:4")
    )
    after = contents(tmp_path)
    assert {n: after[n] for n in before} == before
    beside = directory_of(out).with_name(directory_of(out).name + ".new")
    done = {p: p.stat().st_mtime_ns for p in beside.glob("part-*")}
    assert len(done) >= 4
    assert code_of(lambda: run_here(table, out, seed=2)) == 4, "only --overwrite replaces"
    run_here(table, out, seed=2, overwrite=True)
    assert seed_of(out) == 2
    assert not beside.exists()
    assert (directory_of(out) / "notes.txt").read_text() == "mine"
    assert code_of(lambda: run_here(table, out, seed=2)) == 0


@pytest.mark.parametrize("point", REPLACING)
def test_a_killed_overwrite_is_repaired(
    point: str, table: Path, undisturbed: dict[int, Path], tmp_path: Path
) -> None:
    """After a kill the old or the new table is whole, or the same command makes it so."""
    out = tmp_path / "out.tsv"
    run_here(table, out, limit=30)
    old, point_name, number = out.read_bytes(), *point.split(":")
    again: Callable[[], None] = lambda: run_here(table, out, seed=2, overwrite=True)  # noqa: E731
    environment = faults(tmp_path / "faults", f"{point_name}:kill:{number}")
    assert killed(again, environment), "the point was not passed"
    if not point_name.startswith("replacement"):
        assert (seed_of(out), out.read_bytes()) == (1, old)
    assert out.exists()
    if point_name == "replacement_cleared" or point_name.startswith("replacement_mov"):
        assert code_of(again) == 0, "what was left to do is no computation"
    else:
        again()
    assert seed_of(out) == 2
    assert rows_of(directory_of(out)) == rows_of(directory_of(undisturbed[2]))
    assert out.read_bytes() == undisturbed[2].read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"faults", "out.tsv", "out.tsv.run"}


def test_a_third_run_replaces_one_that_was_not_finished(table: Path, tmp_path: Path) -> None:
    run_here(table, tmp_path / "out")
    call = lambda: run_here(table, tmp_path / "out", seed=2, overwrite=True)  # noqa: E731
    assert killed(call, faults(tmp_path / "faults", "unit_counted:kill:2"))
    run_here(table, tmp_path / "out", seed=3, overwrite=True)
    assert seed_of(tmp_path / "out") == 3
    assert not (tmp_path / "out.new").exists()


def test_what_stands_beside_and_is_not_ours_is_left_alone(table: Path, tmp_path: Path) -> None:
    run_here(table, tmp_path / "out")
    run_here(table, tmp_path / "out.new")  # a table that somebody calls so
    before = contents(tmp_path)
    assert code_of(lambda: run_here(table, tmp_path / "out", seed=2, overwrite=True)) == 4
    assert contents(tmp_path) == before


def test_tables_and_models_do_not_replace_each_other(table: Path, tmp_path: Path) -> None:
    run_here(table, tmp_path / "out")
    with pytest.raises(Refused, match="holds the output of test"):
        take_up(tmp_path / "out", {"a": 1}, overwrite=True)
    take_up(tmp_path / "model", {"a": 1})
    before = contents(tmp_path)
    assert code_of(lambda: run_here(table, tmp_path / "model", overwrite=True)) == 4
    assert contents(tmp_path) == before


# --- killed without --overwrite (T2), disk full (T9) ------------------------------------------------

KILLED = [
    *(f"storage_write:{n}" for n in (1, 2, 3, 4, 5)), *(f"storage_written:{n}" for n in (1, 2, 3, 4, 5)),
    "planned:1", "part_written:3", "unit_committed:3", "unit_counted:3", "joined_write:2",
    "manifest_begins:1", "manifest_written:1",
]  # fmt: skip


@pytest.mark.parametrize("point", KILLED)
def test_a_killed_run_is_taken_up_again(
    point: str, table: Path, undisturbed: dict[int, Path], tmp_path: Path
) -> None:
    out, (name, number) = tmp_path / "out.tsv", point.split(":")
    environment = faults(tmp_path / "faults", f"{name}:kill:{number}")
    assert killed(lambda: run_here(table, out), environment), "the point was not passed"
    run = directory_of(out)
    assert not (run / "_SUCCESS").exists()
    committed = [run / f"part-{p.stem}.parquet" for p in run.glob("_run/commits/[0-9]*.json")]
    done = {p: p.stat().st_mtime_ns for p in committed}
    run_here(table, out)
    assert done == {p: p.stat().st_mtime_ns for p in done}, "a committed part was written again"
    assert rows_of(run) == rows_of(directory_of(undisturbed[1]))
    assert out.read_bytes() == undisturbed[1].read_bytes()
    assert (run / "_SUCCESS").exists()
    (tmp_path / "faults").rename(tmp_path.parent / f"{tmp_path.name}-faults")
    left = {n for n in contents(tmp_path) if ".tmp" in n or n.endswith(".lock") or "joined" in n}
    assert all(n.rpartition("/")[2].startswith(".") for n in left), (
        left
    )  # what a kill leaves, no reader takes


def test_a_damaged_unit_of_a_finished_table_is_made_again(table: Path, tmp_path: Path) -> None:
    """As docs/RELIABILITY.md says: without its record and the manifest, it alone is done."""
    out = tmp_path / "out.tsv"
    run_here(table, out)
    run = directory_of(out)
    before, single = rows_of(run), out.read_bytes()
    for name in ("part-000002.parquet", "rejects/part-000002.parquet"):
        (run / name).write_bytes(before[name][:-9])
    out.write_text("damaged")
    times = {p: p.stat().st_mtime_ns for p in run.glob("part-*")}
    (run / "_run/commits/000002.json").unlink()
    (run / "manifest.json").unlink()
    run_here(table, out)
    assert (rows_of(run), out.read_bytes()) == (before, single)
    assert [p.name for p, time in times.items() if p.stat().st_mtime_ns != time] == ["part-000002.parquet"]


def test_a_full_disk_at_every_write(
    table: Path, undisturbed: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is torn, no unit is committed without its part, with space the run goes on to the same rows."""
    whole = rows_of(directory_of(undisturbed[1]))
    codes = []
    for number in range(1, 1000):
        out = tmp_path / f"out{number}"
        for name, value in faults(tmp_path / f"faults{number}", f"storage_write:ENOSPC:{number}").items():
            monkeypatch.setenv(name, value)
        codes.append(code_with_full_disk(table, out))
        monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "0")
        if codes[-1] == 0:
            break
        assert all(whole[n] == data for n, data in rows_of(out).items()) if out.exists() else True
        if (out / "_SUCCESS").exists():
            assert not (out / "summary.json").exists(), "nothing but the summary is written later"
            assert code_with_full_disk(table, out) == 0
            continue
        assert not [n for n in contents(tmp_path) if n.endswith((".tmp", ".lock", ".probe"))]
        for record in out.glob("_run/commits/*.json"):
            assert (
                len(pq.read_table(out / f"part-{record.stem}.parquet"))
                == json.loads(record.read_text())["rows_out"]
            )
        if codes[-1] == 1 and (out / "_run" / "plan.json").exists():
            assert json.loads((out / "summary.json").read_text())["message"].count("bytes free") == 1
        run_here(table, out)
        assert rows_of(out) == whole
    assert codes[0] == 2, "the first write only tries whether the output can be written"
    assert set(codes[2:-2]) == {1}
    assert len(codes) > 20


def code_with_full_disk(table: Path, out: Path) -> int:
    """Exit code of a run; 1 for an error that is handed on."""
    try:
        run_here(table, out)
    except SystemExit as end:
        return int(end.code or 0)
    except OSError as error:
        return 1 if "the disk is full" in str(error) else -1
    return 0


# --- training ---------------------------------------------------------------------------------------


def take_up(place: Path, identity: dict, *, overwrite: bool = False) -> TrainingRun | None:
    """The run, with its lock given back at once; None if it is complete."""
    run = Run({})
    training = TrainingRun("train", "--checkpoint-dir", str(place), run)
    taken = training.take_up(
        identity, {"global_batch_size": 8}, TrainingRunFlags(overwrite=overwrite), needed_bytes=0, reads=[]
    )
    run.ended()
    return training if taken else None


def train(place: Path, seed: int, *, overwrite: bool = False) -> None:
    """What a run leaves, without the training."""
    run = take_up(place, {"seed": seed}, overwrite=overwrite)
    assert run is not None
    root = Path(run.root)
    for name in ("best", "last", "checkpoints/step-00000001"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "gpt.safetensors").write_text(str(seed))
        (root / name / "config.json").write_text("{}")
    (root / "checkpoints/step-00000001/checkpoint.json").write_text('{"files": {}}')
    (root / "metrics.jsonl").write_text(f"{seed}\n")
    (root / "_SUCCESS").touch()
    run.end({"step": 1})


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 6])
def test_a_model_is_replaced_when_the_new_one_is_complete(number: int, tmp_path: Path) -> None:
    model = tmp_path / "model"
    train(model, 1)
    (model / "notes.txt").write_text("mine")
    with pytest.raises(Refused, match="seed: was 1, is 2"):
        take_up(model, {"seed": 2})
    if number:
        point = "replacement_cleared:kill:1" if number == 6 else f"replacement_moving:kill:{number}"
        assert killed(lambda: train(model, 2, overwrite=True), faults(tmp_path / "faults", point))
    else:
        run = take_up(model, {"seed": 2}, overwrite=True)
        assert run is not None
        assert (model / "best" / "gpt.safetensors").read_text() == "1"
        assert run.root == str(tmp_path / "model.new")
    if number:
        assert take_up(model, {"seed": 2}, overwrite=True) is None, "it is complete"
    else:
        train(model, 2, overwrite=True)
    assert (model / "best" / "gpt.safetensors").read_text() == "2"
    assert (model / "metrics.jsonl").read_text() == "2\n"
    assert (model / "notes.txt").read_text() == "mine"
    assert (model / "_SUCCESS").exists()
    assert not (tmp_path / "model.new").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/thesis.doc").write_text("x")
    (tmp_path / "file").write_text("x")
    for name, message in (("model", r"thesis\.doc"), ("file", "is a file")):
        with pytest.raises(Refused, match=message):
            take_up(tmp_path / name, {"seed": 1}, overwrite=True)
    assert sorted(contents(tmp_path)) == ["file", "model/thesis.doc"]
