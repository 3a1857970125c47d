"""python -m benchmarks.scale: what a unit costs the driver, with many model workers that only wait.

A table job of tiny units over a pretended cluster: a head without CPUs, on which the driver runs, and a node
of this machine that says it has as many GPUs as there are to be workers. So it measures Ray Data's
bookkeeping and ours, which is what bounds a large cluster, and not models or disks.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.measure import Setup, machine, resident_peak
from painter_core.runs.cluster import start_ray
from painter_core.runs.flags import ModelFlags, TableFlags
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.tables.columns import Columns
from painter_core.tables.unit_row import UnitRow

ROWS = 4  # of a unit: a row group
UNITS_OF_A_FILE = 100
TASK_CPUS = 6  # of the node, beside one for each worker: what bounds reading, decoding and writing here
SETTLED = 0.1  # share of the units that are not counted, while workers start


@dataclasses.dataclass(frozen=True)
class Wait:
    """The model: it waits for so long."""

    seconds: float

    def __call__(self, row: UnitRow) -> UnitRow:
        time.sleep(self.seconds)
        return row


def unchanged(row: UnitRow) -> UnitRow:
    """The decoder."""
    return row


def idx_and_text(row: UnitRow) -> pa.Table:
    """The part of a unit."""
    return row.table.select(["idx", "text"])


def write_tables(folder: Path, units: int) -> Path:
    """Parquet files whose row groups are the units."""
    folder.mkdir()
    for first in range(0, units, UNITS_OF_A_FILE):
        numbers = range(ROWS * first, ROWS * min(first + UNITS_OF_A_FILE, units))
        table = pa.table({"idx": [f"r{i}" for i in numbers], "text": [f"第{i}行" for i in numbers]})
        pq.write_table(table, folder / f"{first:06d}.parquet", row_group_size=ROWS)
    return folder


def commits(outputs: Path) -> int:
    """Units that are done."""
    directory = outputs / "_run" / "commits"
    return len(os.listdir(directory)) if directory.exists() else 0


def run_job(tables: Path, outputs: Path, actors: int, seconds: float) -> list[tuple[float, float, int]]:
    """The job in this process, which becomes the driver.

    Returns:
        Wall seconds, CPU seconds of this process and units done, once a second.
    """
    seen: list[tuple[float, float, int]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(1.0):
            seen.append((time.perf_counter(), time.process_time(), commits(outputs)))

    with Run({}) as run:
        cluster = start_ray()
        job = TableJob(
            stage="test",
            table="test",
            flags=TableFlags(tables=str(tables), outputs=str(outputs)),
            columns=Columns(schema=("idx", "text"), text="text"),
            identity={"model": "none"},
            model=ModelFlags(micro_batch_size=ROWS, num_actors=str(actors)),
        )
        watch = threading.Thread(target=look, daemon=True)
        watch.start()
        steps = (Tasks(operator=unchanged), Actors(operator=Wait, arguments={"seconds": seconds}))
        TableRun(job, run, cluster).execute(*steps, parts=Parts(build=idx_and_text))
        ended.set()
        watch.join()
    return seen


def cost(seen: list[tuple[float, float, int]], units: int) -> dict[str, float]:
    """Units a second and the driver's milliseconds of CPU a unit, once the workers are at work."""
    settled = [(wall, cpu, done) for wall, cpu, done in seen if done >= SETTLED * units and done < units]
    (wall, cpu, done), (last_wall, last_cpu, last_done) = settled[0], settled[-1]
    count = last_done - done
    return {
        "first_unit_s": next(wall for wall, _, done in seen if done) - seen[0][0],
        "units_per_s": count / (last_wall - wall),
        "driver_ms_per_unit": 1000 * (last_cpu - cpu) / count,
        "driver_cores": (last_cpu - cpu) / (last_wall - wall),
        "driver_bytes": resident_peak(),
    }


def measure(units: int, actors: int, seconds: float) -> dict[str, float]:
    """Runs the job in a process of its own, on a cluster of its own."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=actors + TASK_CPUS, num_gpus=actors)
        with tempfile.TemporaryDirectory() as name:
            tables, outputs = write_tables(Path(name) / "tables", units), Path(name) / "out"
            words = [
                str(word) for word in ("--job", tables, outputs, "--actors", actors, "--seconds", seconds)
            ]
            command = [sys.executable, "-m", "benchmarks.scale", "--units", str(units), *words]
            environment = os.environ | {"RAY_ADDRESS": cluster.address}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            assert commits(outputs) == units
        return json.loads(done.stdout.splitlines()[-1])
    finally:
        cluster.shutdown()


def main() -> None:
    """Measures and prints, or as a child is the driver."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--actors", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.0, help="that the model takes for a unit")
    parser.add_argument("--job", nargs=2, type=Path, metavar=("TABLES", "OUTPUTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(cost(run_job(*args.job, args.actors, args.seconds), args.units)))
        return
    os.environ |= {  # before Ray is imported: on the loopback, without the network's token
        "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_idle_worker_killing_time_threshold_ms": "600000", "RAY_worker_niceness": "0",
    }  # fmt: skip
    found = measure(args.units, args.actors, args.seconds)
    head = machine(Setup(device=torch.device("cpu"), short=False, repeats=1, threads=1))
    print(json.dumps({"machine": head, "units": args.units, "actors": args.actors, **found}, indent=1))


if __name__ == "__main__":
    main()
