"""python -m benchmarks: one table of all parts, as Markdown on the standard output and as JSON in a file.

Each part runs in a process of its own, so that what one has allocated does not slow the next.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks import data, defaults, feeding, jobs, limits, measure, memory, models, painting
from benchmarks.measure import Row, Setup
from painter_core.runs.cluster import KEEP_MEMORY

Part = Callable[[Setup, limits.Peaks], Iterator[Row]]


def parts(device: torch.device) -> dict[str, Part]:
    """All parts by name."""
    found: dict[str, Part] = {"encode": models.encode, "decode": models.decode}
    for size in ("base", "large"):
        found[f"train-{size}"] = lambda s, p, size=size: models.train(s, p, size)
        for batch in (1, 16, 64, *((512, 1024) if device.type == "cuda" else ())):
            found[f"generate-{size}-{batch}"] = lambda s, p, size=size, batch=batch: painting.generate(
                s, p, size, min(batch, 2) if s.short else batch, baseline=batch == 16
            )
    found["generate-long"] = painting.generate_long
    for work in (data.picture_files, data.cells, data.captions, data.collation, data.reading):
        found[work.__name__.replace("_", "-")] = work
    found["activation-checkpointing"] = memory.activation_checkpointing
    found["job-feeding"] = feeding.feeding
    found |= {"job-precompute": jobs.precompute, "job-generate": jobs.generate, "job-train": jobs.train}
    return found | {"default-generate": defaults.generate}


def main() -> None:
    """Runs the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--short", action="store_true", help="tiny geometry, one round: shows that it runs")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of a part")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of both sides")
    parser.add_argument("--cpu-clock", action="store_true", help="CPU seconds of one thread")
    parser.add_argument("--parts", default="", help="names or beginnings of names, with commas between")
    parser.add_argument("--json", default="benchmarks.json", help="where the same table goes as JSON")
    parser.add_argument("--in-process", action="store_true", help="no process a part")
    args = parser.parse_args()
    device = torch.device(args.device)
    one = args.short or args.cpu_clock
    threads = 1 if one else args.threads
    setup = Setup(
        device=device, short=args.short, repeats=args.repeats, threads=threads, cpu_clock=args.cpu_clock
    )
    known = parts(device)
    wanted = [name for name in known if _asked(name, args.parts.split(","), known)]
    if not wanted:
        parser.error(f"--parts {args.parts}: expected some of {', '.join(known)}")
    died: list[str] = []
    if args.in_process:
        torch.set_num_threads(setup.threads)
        peaks = limits.find_peaks(setup)
        table = [row for name in wanted for row in known[name](setup, peaks)]
    else:
        table = []
        for name in wanted:
            try:
                table += _in_own_process(name, sys.argv[1:])
            except subprocess.CalledProcessError as error:
                died.append(f"{name} (exit code {error.returncode})")
    Path(args.json).write_text(measure.as_json(measure.machine(setup), table))
    print(measure.markdown(table))
    if died:
        sys.exit(f"not measured: {', '.join(died)}; -9 is mostly a lack of memory")


def _asked(name: str, asked: list[str], known: dict[str, Part]) -> bool:
    return any(name == a if a in known else name.startswith(a) for a in asked)


def _in_own_process(name: str, arguments: list[str]) -> list[Row]:
    print(f"{name} ...", file=sys.stderr, flush=True)
    result = Path(f".benchmark-{name}-{os.getpid()}.json").absolute()
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        *arguments,
        "--parts",
        name,
        "--in-process",
        "--json",
        str(result),
    ]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | KEEP_MEMORY)
        return [Row(**row) for row in json.loads(result.read_text())["rows"]]
    finally:
        result.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
