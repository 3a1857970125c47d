"""T4, the soak: a job whose driver and workers are killed at random, and that is submitted again until it
ends, leaves what an undisturbed run leaves.

    make soak

prints the figures. Who is killed next, and how many units later, is drawn from SEED; where exactly in its
work that finds a process differs from run to run. Every driver has a Ray of its own, which dies with it.
"""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.jobs import ROOT
from tests.support.local_run import rows_of

from process_table import descendants, end_processes, read_process, read_processes  # isort: skip  in cluster/

SEED = 22
DRIVERS, WORKERS = 8, 12  # that are killed
MOST_UNITS_BETWEEN = 26
FILES, UNITS_OF_A_FILE, UNIT_ROWS = 8, 50, 16
UNITS = FILES * UNITS_OF_A_FILE
ROWS = UNITS * UNIT_ROWS
BROKEN_EVERY = 400  # so many rows are no picture: rejects must come out once, too
MOST_RUNS = 2 * DRIVERS + 4  # a run whose workers die too often ends with 1, and is submitted again as well
TIMEOUT_S = 1500


def write_tables(directory: Path) -> Path:
    """Parquet files of tiny pictures; a row group is a unit."""
    directory.mkdir()
    pixels = np.random.default_rng(SEED).integers(0, 256, (ROWS, 4, 4, 3), np.uint8)
    for file in range(FILES):
        rows = range(file * ROWS // FILES, (file + 1) * ROWS // FILES)
        table = {
            "idx": [f"r{row}" for row in rows],
            "text": [f"第{row}张图" for row in rows],
            "imgbase64": [b"?" if row % BROKEN_EVERY == 7 else png(pixels[row]) for row in rows],
        }
        pq.write_table(pa.table(table), directory / f"{file}.parquet", row_group_size=UNIT_ROWS)
    return directory


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(out, "PNG", compress_level=1)
    return out.getvalue()


@dataclass(kw_only=True)
class Submitted:
    """The same command, submitted again and again."""

    command: list[str]
    out: Path
    traces: Path
    ray: str
    process: subprocess.Popen[bytes] | None = None
    codes: list[int] = field(default_factory=list)
    """How the runs ended."""
    done_before: list[set[int]] = field(default_factory=list)
    """Units that were committed when each run began."""
    _orphans: set[tuple[int, int]] = field(default_factory=set)  # (pid, start) of killed drivers' families

    def start(self) -> None:
        """Submits it."""
        number = len(self.done_before)
        assert number < MOST_RUNS, f"{number} runs and no end: {self.codes}; {self.log(number - 1)}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PAINTER_"))}
        trace = {"PAINTER_ENABLE_FAULTS": "1", "PAINTER_TRACE": str(self.traces / f"{number}.jsonl")}
        self.done_before.append(self.committed())
        with open(self.traces / f"{number}.log", "wb") as log:
            self.process = subprocess.Popen(
                self.command, env=clean | trace | {"RAY_TMPDIR": self.ray}, cwd=ROOT, stdout=log, stderr=log
            )

    def log(self, number: int) -> str:
        """What a run printed."""
        return (self.traces / f"{number}.log").read_text()[-2000:]

    def committed(self) -> set[int]:
        """Units with a commit record."""
        return {int(path.stem) for path in self.out.glob("_run/commits/[0-9]*.json")}

    def ended(self) -> bool:
        """Whether the last run is over; then its exit code is kept."""
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            return False
        self.codes.append(code)
        return True

    def kill(self, victim: str, chance: random.Random) -> bool:
        """SIGKILL to the driver, or to a worker of its Ray that is at work; whether there was one."""
        assert self.process is not None
        processes = read_processes()
        family = descendants(self.process.pid, processes)
        if victim == "driver":
            self._orphans |= {(pid, processes[pid].start_ticks) for pid in family}
            self.process.kill()
            self.process.wait()
            return True
        busy = sorted(pid for pid in family if is_busy(pid))
        if not busy:
            return False
        os.kill(chance.choice(busy), signal.SIGKILL)
        return True

    def end(self) -> None:
        """Nothing of any run is left."""
        if self.process is not None and self.process.poll() is None:
            self.kill("driver", random.Random())
        end_processes(self._alive, grace_s=10)

    def _alive(self) -> set[int]:
        found = ((read_process(pid), start) for pid, start in self._orphans)
        return {process.pid for process, start in found if process and process.start_ticks == start}


def is_busy(pid: int) -> bool:
    """Whether a process is a worker of Ray with one of our operators in hand: Ray says so in its title."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return title.startswith(b"ray::") and b"Map" in title


def disturb(job: Submitted) -> list[str]:
    """Submits the job, kills, submits it again, until all kills are done and the job has ended."""
    chance = random.Random(SEED)
    victims = ["driver"] * DRIVERS + ["worker"] * WORKERS
    chance.shuffle(victims)
    deadline = time.monotonic() + TIMEOUT_S
    job.start()
    for number, victim in enumerate(victims):
        units = len(job.committed()) + chance.randint(1, MOST_UNITS_BETWEEN)
        moment = chance.uniform(0, 0.1)
        while len(job.committed()) < units or not job.kill(victim, chance):
            assert time.monotonic() < deadline, job.log(len(job.codes))
            if job.ended():
                assert job.codes[-1] == 1, f"{number} kills, then {job.codes}: {job.log(len(job.codes) - 1)}"
                job.start()
            time.sleep(0.01 + moment)
        if victim == "driver":
            assert job.ended()
            assert job.codes[-1] == -signal.SIGKILL, "it was over before"
            job.start()
    while not job.ended() or job.codes[-1] != 0:
        assert time.monotonic() < deadline, job.log(len(job.codes) - 1)
        if len(job.codes) == len(job.done_before):
            job.start()
        time.sleep(0.05)
    return victims


def rows(out: Path) -> Iterator[tuple[object, ...]]:
    """Rows of a codes table, by file and row as the units are; then its rejects."""
    for part in sorted(out.glob("part-*.parquet")):
        for row in pq.read_table(part).to_pylist():
            yield row["idx"], row["text"], row["codes"]
    for part in sorted((out / "rejects").glob("part-*.parquet")):
        for row in pq.read_table(part).to_pylist():
            yield row["idx"], row["file"], row["row"], row["reason"]


def hash_of(out: Path) -> str:
    """sha256 of all rows."""
    digest = hashlib.sha256()
    for row in rows(out):
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def computed(trace: Path) -> list[int]:
    """Units that a run's model workers computed."""
    lines = [json.loads(line) for line in trace.read_text().splitlines()] if trace.exists() else []
    return [line["unit"] for line in lines if line["name"] == "unit_computed"]


@pytest.fixture
def ray_dir() -> Iterator[str]:
    """Short, since Ray makes sockets in it."""
    directory = tempfile.mkdtemp(prefix="soak-", dir="/tmp")
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.slow
def test_soak(tiny_vqgan: Path, ray_dir: str, tmp_path: Path) -> None:
    """T4."""
    tables = write_tables(tmp_path / "pairs")
    jobs = {}
    for name in ("undisturbed", "killed"):
        out, traces = tmp_path / name, tmp_path / f"traces-{name}"
        traces.mkdir()
        command = [sys.executable, str(ROOT / "jobs" / "precompute_codes.py"), "--tables", str(tables)]
        command += ["--vqgan", str(tiny_vqgan), "--outputs", str(out), "--micro-batch-size", str(UNIT_ROWS)]
        jobs[name] = Submitted(command=command, out=out, traces=traces, ray=ray_dir)
    undisturbed, killed = jobs.values()
    began = time.monotonic()
    try:
        undisturbed.start()
        while not undisturbed.ended():
            assert time.monotonic() - began < TIMEOUT_S, undisturbed.log(0)
            time.sleep(0.05)
        assert undisturbed.codes == [0], undisturbed.log(0)
        between = time.monotonic()
        victims = disturb(killed)
        ended = time.monotonic()
    finally:
        for job in jobs.values():
            job.end()

    manifest = json.loads((killed.out / "manifest.json").read_text())
    counts = Counter(row[0] for row in rows(killed.out))
    expected = {f"r{row}" for row in range(ROWS)}
    lost, doubled = expected - counts.keys(), [idx for idx, count in counts.items() if count > 1]
    again = [computed(killed.traces / f"{i}.jsonl") for i in range(len(killed.done_before))]
    print(
        f"\nunits {len(manifest['parts'])}, rows in {manifest['rows_in']:,}, out {manifest['rows_out']:,}, "
        f"rejected {manifest['rows_rejected']}\n"
        f"killed: drivers {victims.count('driver')}, workers {victims.count('worker')}; runs "
        f"{len(killed.codes)}, exit codes {dict(Counter(killed.codes))}\n"
        f"units computed {sum(map(len, again))}; rows lost {len(lost)}, rows doubled {len(doubled)}\n"
        f"hash undisturbed {hash_of(undisturbed.out)}\nhash killed      {hash_of(killed.out)}\n"
        f"seconds {between - began:.0f} undisturbed, {ended - between:.0f} killed"
    )
    assert (len(victims), len(manifest["parts"]), manifest["rows_in"]) == (DRIVERS + WORKERS, UNITS, ROWS)
    assert (lost, doubled) == (set(), [])
    assert counts.keys() == expected
    assert hash_of(killed.out) == hash_of(undisturbed.out)
    assert rows_of(killed.out) == rows_of(undisturbed.out), "the parts are equal byte for byte"
    for units, done in zip(again, killed.done_before, strict=True):
        assert not done & set(units), "a committed unit was computed again"
    assert len(set().union(*again)) == UNITS
