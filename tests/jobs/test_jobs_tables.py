"""precompute and generate as users run them: resume (T2, T3), refusal, rejects, equality of tables (T19)."""

import base64
import io
import json
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from painter_core.model_files.open import open_model
from painter_core.painting.painter import Painter, Request
from painter_core.painting.sampling import SamplingConfig
from tests.support.jobs import ROWS, Jobs, sample_cell, strange_lines, table_bytes
from tests.support.local_run import faults


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.tsv"
    path.write_text("".join(f"p{i}\t红色的{i}号杯子\n" for i in range(64)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pictures(jobs: Jobs, prompts: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed output table."""
    out = tmp_path_factory.mktemp("pictures") / "pictures"
    jobs.run("generate", "--tables", prompts, "--checkpoint-dir", model, "--outputs", out, "--num-actors", 2)
    return out


def test_codes_are_readable_by_plain_pyarrow(codes: Path) -> None:
    table = pq.read_table(sorted(codes.glob("part-*.parquet"))[0])
    assert table.column_names == ["idx", "text", "codes"]
    assert str(table.schema.field("codes").type) == "fixed_size_list<element: uint16 not null>[64]"
    assert table.column("idx")[0].as_py() == "r0"
    manifest = json.loads((codes / "manifest.json").read_text())
    assert (manifest["rows_in"], manifest["rows_out"], manifest["rows_rejected"]) == (ROWS, ROWS, 0)
    assert (manifest["settings"]["precision"], manifest["settings"]["compile"]) == ("fp32", False)
    assert (codes / "_SUCCESS").exists()


def test_submitted_job_writes_the_same_bytes(
    jobs: Jobs, pairs: Path, tiny_vqgan: Path, codes: Path, tmp_path: Path
) -> None:
    jobs.submit("precompute_codes", "--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", tmp_path / "codes")
    assert table_bytes(tmp_path / "codes") == table_bytes(codes)


def test_finished_output_is_left_alone(jobs: Jobs, pairs: Path, tiny_vqgan: Path, codes: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in codes.rglob("*")}
    printed = jobs.run("precompute_codes", "--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", codes)
    assert "already complete" in printed
    printed = jobs.run(
        "precompute_codes", "--tables", pairs, "--vqgan", "bundled", "--outputs", codes, code=4
    )
    assert "vqgan_sha256" in printed
    assert before == {p: p.stat().st_mtime_ns for p in codes.rglob("*")}


def test_other_seed_is_refused(jobs: Jobs, prompts: Path, model: Path, pictures: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in pictures.rglob("*")}
    flags = ("--tables", prompts, "--checkpoint-dir", model, "--outputs", pictures)
    assert "already complete" in jobs.run("generate", *flags)
    assert "seed: was 42, is 43" in jobs.run("generate", *flags, "--random-seed", 43, code=4)
    assert before == {p: p.stat().st_mtime_ns for p in pictures.rglob("*")}


def kill_in_the_middle(jobs: Jobs, counters: Path, victim: str, *command: object) -> int:
    """Runs a job whose driver, or one model worker, gets SIGKILL at the third unit; its exit code."""
    point = {"driver": "unit_counted", "worker": "unit_computed"}[victim]
    process = jobs.start(*command, **faults(counters, f"{point}:kill:3"))
    printed, _ = process.communicate(timeout=120)
    assert (counters / point).stat().st_size >= 3, f"nobody was killed:\n{printed}"
    return process.returncode


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_killed_precompute_resumes(
    victim: str, jobs: Jobs, pairs: Path, tiny_vqgan: Path, codes: Path, tmp_path: Path
) -> None:
    """T2 under Ray; at every failpoint without it: test_overwrite.py."""
    out = tmp_path / "codes"
    command = ("precompute_codes", "--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", out)
    code = kill_in_the_middle(jobs, tmp_path / "counters", victim, *command)
    if victim == "driver":
        assert code == -signal.SIGKILL
        assert not (out / "_SUCCESS").exists()
        done = {p: p.stat().st_mtime_ns for p in out.glob("part-*.parquet")}
        assert "resuming" in jobs.run(*command)
        assert len(done) >= 3
        assert done == {p: p.stat().st_mtime_ns for p in done}, "a committed part was written again"
    else:
        assert code == 0, "a killed worker is replaced, the job goes on"
    assert table_bytes(out) == table_bytes(codes)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["unit_computed", "unit_committed"])
def test_a_worker_dies_once_in_every_unit(
    point: str, jobs: Jobs, pairs: Path, tiny_vqgan: Path, codes: Path, tmp_path: Path
) -> None:
    """T3: before the unit is written, or when it is committed and the driver has not heard of it."""
    out, counters, units = tmp_path / "codes", tmp_path / "counters", 4
    command = ("precompute_codes", "--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", out)
    environment = faults(counters, f"{point}:kill:each")
    jobs.run(*command, "--limit", units * 16, "--num-actors", 2, **environment)
    passings = {path.name: path.stat().st_size for path in counters.iterdir()}
    assert passings.keys() == {f"{point}-{unit}" for unit in range(units)}
    assert min(passings.values()) >= 2, "done again"
    assert table_bytes(out) == dict(list(table_bytes(codes).items())[:units])


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_killed_generate_resumes(
    victim: str, jobs: Jobs, prompts: Path, model: Path, pictures: Path, tmp_path: Path
) -> None:
    """T19, killed or not: the same bytes."""
    out = tmp_path / "pictures"
    command = ("generate", "--tables", prompts, "--checkpoint-dir", model, "--outputs", out)
    code = kill_in_the_middle(jobs, tmp_path / "counters", victim, *command)
    if victim == "driver":
        assert code == -signal.SIGKILL
        jobs.run(*command)
    else:
        assert code == 0
    assert table_bytes(out) == table_bytes(pictures)


def test_one_worker_writes_the_same_bytes_as_two(
    jobs: Jobs, prompts: Path, model: Path, pictures: Path, tmp_path: Path
) -> None:
    """T19, another number of actors."""
    out = tmp_path / "pictures"
    flags = ("--tables", prompts, "--checkpoint-dir", model, "--outputs", out)
    jobs.run("generate", *flags, "--num-actors", 1)
    assert table_bytes(out) == table_bytes(pictures)


def test_output_holds_pictures_of_every_sample(
    jobs: Jobs, prompts: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tsv"
    flags = ("--tables", prompts, "--checkpoint-dir", model, "--outputs", out, "--limit", 5)
    jobs.run("generate", *flags, "--max-generated-num", 2)
    rows = [line.split("\t") for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(r[0], r[1], r[3]) for r in rows] == [
        (f"p{i}", f"红色的{i}号杯子", str(sample)) for i in range(5) for sample in (0, 1)
    ]
    decoded = [Image.open(io.BytesIO(base64.b64decode(r[2], validate=True))) for r in rows]
    assert {(p.format, p.size) for p in decoded} == {("PNG", (32, 32))}
    assert len({p.tobytes() for p in decoded}) > 5, "samples of a prompt are drawn independently"


def test_micro_batches_and_units_change_almost_no_code(model: Path) -> None:
    """T19: another shape rounds differently; the figures are printed, and bounded by DESIGN.md's promise."""
    requests = [Request(idx=f"p{i}", text=f"红色的{i}号杯子") for i in range(50)]
    codes = {}
    for size, unit_rows in ((16, 50), (7, 50), (1, 50), (16, 5)):
        painter = Painter(
            open_model(str(model)),
            device=torch.device("cpu"),
            precision="fp32",
            sampling=SamplingConfig(),
            seed=42,
            micro_batch_size=size,
        )
        units = [requests[start : start + unit_rows] for start in range(0, len(requests), unit_rows)]
        batches = [batch for unit in units for batch, _ in painter.paint(unit)]
        codes[size, unit_rows] = np.concatenate(batches)
    for (size, unit_rows), found in codes.items():
        agreement = float((found == codes[16, 50]).mean())
        print(f"micro-batch {size}, units of {unit_rows}: {agreement:.4%} of the codes are equal")
        assert agreement >= 0.999


def test_broken_rows_are_set_aside(jobs: Jobs, write_pairs, tiny_vqgan: Path, tmp_path: Path) -> None:
    """1,000 rows of which 20 are broken: 980 codes, 20 rejects with file, row, column and reason."""
    pairs = write_pairs(tmp_path / "pairs.tsv", 1000)
    lines = pairs.read_bytes().split(b"\n")[:-1]
    jpeg = io.BytesIO()
    Image.radial_gradient("L").save(jpeg, "JPEG")
    broken = {
        "b64_invalid": b"b\tx\t!!not base64!!",
        "img_truncated": b"b\tx\t" + base64.b64encode(jpeg.getvalue()[:900]),
        "text_empty": b"b\t \t" + sample_cell(0).encode(),
        "bad_columns": b"b\tx",
        "text_encoding": b"b\t\xff\xfe\t" + sample_cell(0).encode(),
        "img_empty": b"b\tx\t",
        "img_unidentified": b"b\tx\t" + base64.b64encode(b"<html>404</html>"),
        "idx_invalid": b"\tx\t" + sample_cell(0).encode(),
        "b64_repr": b"b\tx\tb'aGVsbG8='",
        "img_too_small": b"b\tx\t" + base64.b64encode(tiny_png()),
    }
    expected = {}
    for i in range(20):
        reason = list(broken)[i % len(broken)]
        lines[37 + 47 * i] = broken[reason]
        expected[37 + 47 * i + 1] = reason
    pairs.write_bytes(b"\n".join(lines) + b"\n")
    flags = ("--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", tmp_path / "codes")
    printed = jobs.run("precompute_codes", *flags, code=3)
    assert "20 of 1,000 rows were rejected" in printed
    assert strange_lines(printed) == [], "no traceback, and nothing of Ray's own affairs"
    assert json.loads((tmp_path / "codes" / "summary.json").read_text())["exit_code"] == 3
    assert not (tmp_path / "codes" / "manifest.json").exists()
    # nothing is lost: a higher ceiling accepts what is committed, without computing it again
    jobs.run("precompute_codes", *flags, "--max-reject-fraction", 0.05)
    table = pq.read_table([*sorted((tmp_path / "codes").glob("part-*.parquet"))])
    assert len(table) == 980
    rejects = pq.read_table([*sorted((tmp_path / "codes" / "rejects").glob("*.parquet"))]).to_pylist()
    assert {r["row"]: r["reason"] for r in rejects} == expected
    assert {r["file"] for r in rejects} == {str(pairs)}
    columns = {r["reason"]: r["column"] for r in rejects}
    assert columns["img_truncated"] == "imgbase64"
    assert columns["text_empty"] == columns["text_encoding"] == "text"
    for reject in rejects:
        assert pairs.read_bytes()[reject["byte_offset"] :].startswith(lines[reject["row"] - 1])


def tiny_png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (1, 1)).save(out, "PNG")
    return out.getvalue()
