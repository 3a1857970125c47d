"""Jobs over pictures that kill or hang their decoder (T5), and with a library that is at fault (T8)."""

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painter_core.stages.inspect_table.verify import find_problems
from tests.support.jobs import ROWS, Jobs, table_bytes


def test_poison_rows_cost_themselves(
    jobs: Jobs, pairs: Path, tiny_vqgan: Path, codes: Path, tmp_path: Path
) -> None:
    """T5: rows 5 and 40 end any process that decodes them."""
    out = tmp_path / "codes"
    flags = ("--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", out, "--max-reject-fraction", 0.02)
    faults = {"PAINTER_ENABLE_FAULTS": "1", "PAINTER_POISON": "5:exit,7:exit,40:exit"}
    # a dry run decodes in the driver, which lives
    assert "'worker_crash': 3" in jobs.run("precompute_codes", *flags, "--dry-run", **faults)
    began = time.monotonic()
    jobs.run("precompute_codes", *flags, **faults)
    print(f"{time.monotonic() - began:.0f} s")
    assert time.monotonic() - began < 60
    lines = pq.read_table([*sorted((out / "rejects").glob("*.parquet"))]).to_pylist()
    assert {line["row"]: (line["idx"], line["reason"]) for line in lines} == {
        row: (f"r{row - 1}", "worker_crash") for row in (5, 7, 40)
    }
    whole = pa.concat_tables(pq.read_table(p) for p in sorted(codes.glob("part-*.parquet"))).to_pylist()
    left = pa.concat_tables(pq.read_table(p) for p in sorted(out.glob("part-*.parquet"))).to_pylist()
    assert left == [row for i, row in enumerate(whole, 1) if i not in (5, 7, 40)]


@pytest.mark.slow
def test_a_row_that_hangs_costs_itself(jobs: Jobs, pairs: Path, tiny_vqgan: Path, tmp_path: Path) -> None:
    """15 s in the worker, 15 s in the child that the second attempt starts."""
    out = tmp_path / "codes"
    flags = ("--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", out)
    faults = {"PAINTER_ENABLE_FAULTS": "1", "PAINTER_POISON": "7:hang"}
    jobs.run("precompute_codes", *flags, **faults)
    (line,) = pq.read_table(out / "rejects").to_pylist()
    assert (line["row"], line["reason"], line["detail"]) == (7, "decode_timeout", "not decoded within 15 s")
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["rows_in"], manifest["rows_out"]) == (ROWS, ROWS - 1)
    assert json.loads((out / "summary.json").read_text())["seconds"] < 90


@pytest.mark.slow
def test_a_library_at_fault_is_a_bug_of_the_job(
    jobs: Jobs, pairs: Path, tiny_vqgan: Path, codes: Path, tmp_path: Path
) -> None:
    """T8: no unit counts as done, and the same command does it all once the library is mended."""
    out = tmp_path / "codes"
    flags = ("--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", out)
    faults = {"PAINTER_ENABLE_FAULTS": "1", "PAINTER_POISON": "*:bug"}
    printed = jobs.run("precompute_codes", *flags, code=1, **faults)
    assert "no_such_function" in printed
    assert json.loads((out / "summary.json").read_text())["exit_code"] == 1
    assert table_bytes(out) == {}
    assert not (out / "rejects").exists()
    jobs.run("precompute_codes", *flags)
    assert table_bytes(out) == table_bytes(codes)


@pytest.mark.slow
def test_a_library_that_rejects_everything_trips_the_breaker(
    jobs: Jobs, write_pairs, tiny_vqgan: Path, tmp_path: Path
) -> None:
    """Case 104, T8: exit code 3 after 1,000 rows, one reason named; mended, those rows come out after all."""
    pairs, out = write_pairs(tmp_path / "pairs.tsv", 1040), tmp_path / "codes"
    flags = ("--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", out)
    faults = {"PAINTER_ENABLE_FAULTS": "1", "PAINTER_POISON": "*:reject"}
    printed = jobs.run("precompute_codes", *flags, code=3, **faults)
    assert "rows were rejected as img_truncated: this is not your data" in printed
    assert json.loads((out / "summary.json").read_text())["breaker"] == "img_truncated"
    assert not (out / "manifest.json").exists()
    jobs.run("precompute_codes", *flags)
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["rows_out"], manifest["rows_rejected"]) == (1040, 0)
    assert find_problems(str(out)) == []
