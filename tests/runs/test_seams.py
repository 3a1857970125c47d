"""Between two writes of any kind: what a kill or a user's hand leaves there is noticed."""

import json
from pathlib import Path

import pytest

from painter_core.errors import Refused
from painter_core.runs.lock import RunLock
from painter_core.tables.manifest import iter_parts
from painter_core.tables.records import seal
from tests.support.local_run import code_of, contents, faults, killed, rows_of, run_here, write_input


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_input(tmp_path / "in.tsv")


@pytest.mark.parametrize("change", ["removed", "cut"])
def test_a_single_file_that_is_gone_is_made_again(change: str, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tsv"
    run_here(table, out)
    whole = out.read_bytes()
    if change == "removed":
        out.unlink()
    else:
        out.write_bytes(whole[:-5])
    run_here(table, out)
    assert out.read_bytes() == whole


@pytest.mark.parametrize("lost", ["part-000003.parquet", "_run/commits/000003.json"])
def test_a_part_that_is_gone_is_made_again(
    lost: str, table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    out = tmp_path / "out"
    run_here(table, out)
    whole = contents(out)
    (out / lost).unlink()
    run_here(table, out)
    assert rows_of(out) == {name: data for name, data in whole.items() if name.endswith(".parquet")}
    assert json.loads((out / "summary.json").read_text())["units_done"] == 1
    caplog.clear()
    run_here(table, out)
    assert "already complete" in caplog.text


@pytest.mark.parametrize(
    "plan", ["[]", "{}", '{"stage": 1, "identity": {}}', '{"stage": "test", "identity": 3}', "{"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_plan_of_others_is_left_alone(
    plan: str, overwrite: bool, table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out" / "_run").mkdir(parents=True)
    (tmp_path / "out" / "_run" / "plan.json").write_text(plan)
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    before = contents(tmp_path / "out")
    assert code_of(lambda: run_here(table, tmp_path / "out", overwrite=overwrite)) == 2
    assert "out/_run/plan.json: no" in caplog.text
    assert contents(tmp_path / "out") == before


def test_what_is_noticed_is_said_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ['a\t"经典""小白鞋"""\n', "b\t7\n", "\n", "b\t文\n", "c\t=1\n"]
    (tmp_path / "in.tsv").write_text("".join(lines))
    run_here(tmp_path / "in.tsv", tmp_path / "out")
    for said in (
        "1 text_quoted: the caption stands in quotes, and those inside are doubled: see --quoting csv",
        "1 text_number: the caption is a number: a class label",
        "1 idx_repeated: ", "1 blank_line: ", "1 text_formula: ",
    ):  # fmt: skip
        assert f"test: kept, but noticed: {said}" in caplog.text


def test_a_table_of_an_older_version_has_no_size_of_its_file(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tsv"
    run_here(table, out)
    manifest = tmp_path / "out.tsv.run" / "manifest.json"
    found = json.loads(manifest.read_text())
    del found["joined_bytes"]
    manifest.write_text(json.dumps(seal(found)))
    before = contents(tmp_path)
    run_here(table, out)
    assert contents(tmp_path) == before, "already complete"


def test_rejects_of_an_attempt_that_died_do_not_stay(table: Path, tmp_path: Path) -> None:
    """The first attempt rejected a row and died before its commit; the second does not."""
    run_here(table, tmp_path / "other")
    (tmp_path / "good.tsv").write_text("".join(f"{i}\t文\n" for i in range(32)))
    dies = faults(tmp_path / "faults", "part_written:kill:1")
    assert killed(lambda: run_here(tmp_path / "good.tsv", tmp_path / "out"), dies)
    left = tmp_path / "out" / "rejects" / "part-000000.parquet"
    left.parent.mkdir()
    left.write_bytes((tmp_path / "other" / "rejects" / left.name).read_bytes())
    run_here(tmp_path / "good.tsv", tmp_path / "out")
    assert not left.exists()
    assert sum(len(part) for part in iter_parts(str(tmp_path / "out"))) == 32


def test_a_link_to_an_output_is_the_same_output(table: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    held = RunLock(str(tmp_path / "out"), print)
    held.acquire()
    try:
        with pytest.raises(Refused, match="another run writes there"):
            RunLock(str(tmp_path / "link"), print).acquire()
        assert code_of(lambda: run_here(table, tmp_path / "link")) == 4
    finally:
        held.release()


def test_an_overwrite_that_was_given_up_is_mentioned(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    run_here(table, out)
    again = faults(tmp_path / "faults", "part_written:kill:2")
    assert killed(lambda: run_here(table, out, seed=2, overwrite=True), again)
    before = contents(tmp_path / "out.new")
    caplog.clear()
    run_here(table, out)  # the old settings: already complete
    assert f"{out}.new holds an --overwrite that was not finished" in caplog.text
    assert contents(tmp_path / "out.new") == before


def test_where_everything_is_rejected_the_first_row_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in.tsv").write_text("\n" + "".join(f"{i}\t \n" for i in range(40)))
    assert code_of(lambda: run_here(tmp_path / "in.tsv", tmp_path / "out")) == 3
    assert (
        "all of 40 rows were rejected (40 text_empty): this is the wrong table, or not its columns"
        in caplog.text
    )
    assert f"{tmp_path}/in.tsv line 2, idx '0', column text" in caplog.text
    assert "All other rows" not in caplog.text
