"""python -m benchmarks.growth: cost a row and memory from a thousand to a million rows, the model simulated.

A whole precompute job on Ray, whose model stage writes random codes; and planning and resuming alone, for up
to a hundred thousand units. Prints two tables; --svg draws the first.
"""

import argparse
import dataclasses
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.jobs import steady_rate
from benchmarks.measure import Setup, machine, resident_peak
from painter_core.runs.cluster import start_ray
from painter_core.runs.flags import ModelFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.steps import Parts, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.parts import codes_table
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.plan import Plan, differences
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.unit_row import UnitRow
from painter_core.tables.units import UNIT_ROWS, group_units, plan_units

IMAGE_LEN = 256
SCHEMA = ("idx", "text")
COLUMNS = Columns(schema=SCHEMA, text="text")
LEFT, TOP, WIDTH, HEIGHT = 70, 30, 460, 240  # the plot's, in pixels


@dataclass(frozen=True, kw_only=True)
class Size:
    """A job over so many rows."""

    rows: int
    units: int
    seconds: float
    """Wall time of the driver, Ray's start included."""
    us_per_row: float
    """Microseconds, from the first commit to the last."""
    driver_bytes: int
    """Largest resident memory of the driver."""


def simulate(row: UnitRow) -> UnitRow:
    """The model stage: codes as random as a trained VQGAN's, a function of the unit."""
    codes = np.random.default_rng(row.unit).integers(0, 16384, row.rows_in * IMAGE_LEN, np.uint16)
    table = row.table.select(list(SCHEMA))
    payload = {"codes": codes.tobytes(), "image_len": IMAGE_LEN, "model_s": 0.0}
    return dataclasses.replace(row, table=table, payload=payload)


def write_table(path: Path, rows: int) -> Path:
    """A TSV of idx and text."""
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, rows, 100_000):
            file.writelines(f"r{i}\t一件红色的连衣裙\n" for i in range(start, min(start + 100_000, rows)))
    return path


def run_job(table: Path, outputs: Path) -> None:
    """The job in this process, which becomes the driver."""
    with Run({}) as run:
        cluster = start_ray()
        job = TableJob(
            stage="precompute",
            table="codes",
            flags=TableFlags(tables=str(table), outputs=str(outputs)),
            columns=COLUMNS,
            identity={"model": "simulated"},
            model=ModelFlags(micro_batch_size=16),
            manifest={"image_len": IMAGE_LEN},
        )
        TableRun(job, run, cluster).execute(Tasks(operator=simulate), parts=Parts(build=codes_table))


def measure_size(rows: int, folder: Path) -> Size:
    """Runs the job over so many rows in a process of its own."""
    table, outputs = write_table(folder / "prompts.tsv", rows), folder / "codes"
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.growth", "--job", str(table), str(outputs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - began
    units = len(list((outputs / "_run" / "commits").glob("*.json")))
    shutil.rmtree(outputs)
    found = json.loads(done.stdout.splitlines()[-1])
    return Size(rows=rows, units=units, seconds=seconds, **found)


def plan_and_resume(units: int, folder: Path) -> dict[str, float]:
    """Seconds and memory of planning a TSV of so many units, writing the plan, and finding out that half of
    it is done."""
    table = folder / "prompts.tsv"
    with table.open("wb") as file:
        for _ in range(units):
            file.write(b"r\tx\n" * UNIT_ROWS)
    before, began = resident_peak(), time.perf_counter()
    files = find_files(str(table))
    found = plan_units(files, COLUMNS, micro_batch_size=16, limit=None)
    assert len(found) == units
    plan = Plan(stage="precompute", identity={}, settings={}, files=files, units=found)
    directory = RunDirectory(str(folder / "out"))
    directory.write_json(plan.to_json(), "_run", "plan.json")
    planned = time.perf_counter() - began
    (folder / "out" / "_run" / "commits").mkdir()
    for number in range(0, units, 2):
        (folder / "out" / "_run" / "commits" / f"{number:06d}.json").touch()
        (folder / "out" / f"part-{number:06d}.parquet").touch()
    began = time.perf_counter()
    assert not differences(directory.read_json("_run", "plan.json"), plan.to_json())
    done = directory.committed()
    pending = group_units([u for u in plan.units if u.number not in done])
    resumed = time.perf_counter() - began
    assert pending
    return {"units": units, "plan_s": planned, "resume_s": resumed, "bytes": resident_peak() - before}


def markdown(sizes: list[Size], plans: list[dict[str, float]]) -> str:
    """Both tables."""
    lines = ["| rows | units | whole job | a row | each further row | driver |", "|---|---|---|---|---|---|"]
    for s, before in zip(sizes, (None, *sizes[:-1]), strict=True):
        further = 1e6 * (s.seconds - before.seconds) / (s.rows - before.rows) if before else None
        cells = (f"{s.rows:,}", f"{s.units:,}", f"{s.seconds:.0f} s", f"{s.us_per_row:.0f} µs")
        cells += ("" if further is None else f"{further:.0f} µs", f"{s.driver_bytes / 2**20:.0f} MiB")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| units | planning | resuming | memory of both |", "|---|---|---|---|"]
    for p in plans:
        cells = (f"{p['units']:,}", f"{p['plan_s']:.2f} s", f"{p['resume_s']:.2f} s")
        lines.append("| " + " | ".join((*cells, f"{p['bytes'] / 2**20:.0f} MiB")) + " |")
    return "\n".join(lines) + "\n"


def plot(sizes: list[Size]) -> str:
    """Cost a row and the driver's memory over the number of rows, each on an axis from zero, as SVG."""
    out = io.StringIO()
    width, height = LEFT + WIDTH + 90, TOP + HEIGHT + 50
    out.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" ')
    out.write('font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>\n')
    out.write(f'<path d="M{LEFT} {TOP}v{HEIGHT}h{WIDTH}v{-HEIGHT}" fill="none" stroke="black"/>\n')
    logs = np.log10([s.rows for s in sizes])
    xs = LEFT + WIDTH * (logs - logs[0]) / max(logs[-1] - logs[0], 1e-9)
    for x, size in zip(xs, sizes, strict=True):
        out.write(f'<text x="{x:.0f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{size.rows:,}</text>\n')
    out.write(f'<text x="{LEFT + WIDTH / 2}" y="{height - 8}" text-anchor="middle">rows</text>\n')
    curves = (
        ("µs a row", "#1f5fa8", [s.us_per_row for s in sizes], LEFT - 6, "end"),
        ("driver, MiB", "#b04a1f", [s.driver_bytes / 2**20 for s in sizes], LEFT + WIDTH + 6, "start"),
    )
    for name, color, values, x, anchor in curves:
        top = max(values) * 1.25
        for share in (0, 0.5, 1):
            y = TOP + HEIGHT * (1 - share)
            text = f"{share * top:.0f}"
            out.write(f'<text x="{x}" y="{y + 4:.0f}" text-anchor="{anchor}" fill="{color}">{text}</text>\n')
        out.write(f'<text x="{x}" y="{TOP - 12}" text-anchor="{anchor}" fill="{color}">{name}</text>\n')
        points = [(a, TOP + HEIGHT * (1 - v / top)) for a, v in zip(xs, values, strict=True)]
        line = " ".join(f"{a:.0f},{b:.0f}" for a, b in points)
        out.write(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>\n')
        out.writelines(f'<circle cx="{a:.0f}" cy="{b:.0f}" r="3" fill="{color}"/>\n' for a, b in points)
    return out.getvalue() + "</svg>\n"


def main() -> None:
    """Runs all sizes, or as a child one job or one plan."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--rows", default="1000,10000,100000,1000000")
    parser.add_argument("--units", default="1000,10000,100000")
    parser.add_argument("--svg", default="")
    parser.add_argument("--json", default="growth.json")
    parser.add_argument("--job", nargs=2, metavar=("TABLE", "OUTPUTS"), help=argparse.SUPPRESS)
    parser.add_argument("--plan", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        table, outputs = map(Path, args.job)
        run_job(table, outputs)
        found = {"us_per_row": 1e6 / steady_rate(outputs), "driver_bytes": resident_peak()}
        print(json.dumps(found))
        return
    if args.plan:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(plan_and_resume(args.plan, Path(name))))
        return
    plans = []
    for units in _numbers(args.units):
        command = [sys.executable, "-m", "benchmarks.growth", "--plan", str(units)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        plans.append(json.loads(done.stdout.splitlines()[-1]))
    with tempfile.TemporaryDirectory() as name:
        sizes = [measure_size(rows, Path(name)) for rows in _numbers(args.rows)]
    setup = Setup(device=torch.device("cpu"), short=False, repeats=1, threads=1)
    found = {"machine": machine(setup), "jobs": [asdict(s) for s in sizes], "plans": plans}
    Path(args.json).write_text(json.dumps(found, indent=1) + "\n")
    if args.svg:
        Path(args.svg).write_text(plot(sizes), encoding="utf-8")
    print(markdown(sizes, plans))


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


if __name__ == "__main__":
    main()
