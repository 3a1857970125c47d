"""How long jobs of a few rows take, nearly all of it the start of Ray and torch, of one or several checkouts.

    python -m benchmarks.startup [CHECKOUT ...]

By default of this one. The checkouts take turns, each job RUNS times; the medians of the seconds are printed.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3
HERE = Path(__file__).resolve().parents[1]
ROWS = 20
TRAINING = ("--model", "tiny", "--n-layer", "1", "--n-head", "1", "--n-embd", "16", "--text-len", "16")


def job(checkout: Path, name: str, *flags: object) -> float:
    """Seconds of a job on a local Ray."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PAINTER_"))}
    began = time.monotonic()
    subprocess.run(
        [sys.executable, checkout / "jobs" / f"{name}.py", *map(str, flags)],
        env=clean | {"PYTHONPATH": str(checkout)},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.monotonic() - began


def one_round(checkout: Path, root: Path) -> dict[str, float]:
    """Seconds of each job of the chain."""
    pairs, codes, model = root / "pairs.tsv", root / "codes", root / "model"
    job(checkout, "make_table", "--sample", ROWS, "--outputs", pairs)
    job(checkout, "make_table", "--sample", ROWS, "--prompts", "--outputs", root / "prompts.tsv")
    train = ("--tables", codes, "--checkpoint-dir", model, *TRAINING, "--micro-batch-size", 4)
    generate = ("--tables", root / "prompts.tsv", "--checkpoint-dir", model, "--outputs", root / "out")
    return {
        "precompute_codes": job(checkout, "precompute_codes", "--tables", pairs, "--outputs", codes),
        "train": job(checkout, "train", *train),
        "generate": job(checkout, "generate", *generate),
    }


def main(checkouts: list[str]) -> None:
    """Prints a line a checkout and job."""
    places = [Path(name).resolve() for name in checkouts] or [HERE]
    found: dict[tuple[Path, str], list[float]] = {}
    for _ in range(RUNS):
        for place in places:
            with tempfile.TemporaryDirectory(prefix="painter-startup-") as root:
                for name, seconds in one_round(place, Path(root)).items():
                    found.setdefault((place, name), []).append(seconds)
    for (place, name), seconds in sorted(found.items(), key=lambda item: item[0][1]):
        shown = ", ".join(f"{s:.1f}" for s in seconds)
        print(f"{name:17s} {place}: median {statistics.median(seconds):.1f} s ({shown})")


if __name__ == "__main__":
    main(sys.argv[1:])
