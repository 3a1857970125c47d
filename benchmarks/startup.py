"""What a job of a few rows takes, nearly all of it the start of Ray and torch, in one or several checkouts.

    python -m benchmarks.startup [CHECKOUT ...]

By default of this one. The checkouts take turns, each job RUNS times. Printed are medians of the seconds, and
of the CPU seconds of all processes of a job, which say more where others are at work too.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.processes import cpu_seconds_of, tree

RUNS = 3
LOOK_S = 0.2  # between two looks at the processes
HERE = Path(__file__).resolve().parents[1]
ROWS = 20
TRAINING = ("--model", "tiny", "--n-layer", "1", "--n-head", "1", "--n-embd", "16", "--text-len", "16")


def job(checkout: Path, name: str, *flags: object) -> tuple[float, float]:
    """Seconds and CPU seconds of a job on a local Ray.

    Raises:
        RuntimeError: it failed.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PAINTER_"))}
    command = [sys.executable, str(checkout / "jobs" / f"{name}.py"), *map(str, flags)]
    began, spent = time.monotonic(), 0.0
    with subprocess.Popen(
        command,
        env=clean | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None:
            spent = max(spent, sum(map(cpu_seconds_of, tree(process.pid))))
            time.sleep(LOOK_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - began, spent


def one_round(checkout: Path, root: Path) -> dict[str, tuple[float, float]]:
    """Seconds and CPU seconds of a table run and of a training run."""
    pairs, codes, model = root / "pairs.tsv", root / "codes", root / "model"
    job(checkout, "make_table", "--sample", ROWS, "--outputs", pairs)
    train = ("--tables", codes, "--checkpoint-dir", model, *TRAINING, "--micro-batch-size", 4)
    return {
        "precompute_codes": job(checkout, "precompute_codes", "--tables", pairs, "--outputs", codes),
        "train": job(checkout, "train", *train),
    }


def main(checkouts: list[str]) -> None:
    """Prints a line a checkout and job."""
    places = [Path(name).resolve() for name in checkouts] or [HERE]
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(RUNS):
        for place in places:
            with tempfile.TemporaryDirectory(prefix="painter-startup-") as root:
                for name, (seconds, spent) in one_round(place, Path(root)).items():
                    found[name, str(place)].append((seconds, spent))
                    print(f"{name} {place}: {seconds:.1f} s, {spent:.1f} CPU s", file=sys.stderr, flush=True)
    for (name, place), runs in sorted(found.items()):
        seconds, spent = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"{name:17s} {place}: {seconds:.1f} s, {spent:.1f} CPU s, medians of {len(runs)}")


if __name__ == "__main__":
    main(sys.argv[1:])
