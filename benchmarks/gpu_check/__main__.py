"""python -m benchmarks.gpu_check [--quick]: is the GPU path right here, and which flags are good?

Each gate is a process of its own with a time limit. A table on the standard output, gpu-check.json beside it;
exit code 1 if a gate failed. Gate 0 says whether there is a GPU at all, and ends it if there is none.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu_check import gates, on_ray, painters, speed

Gate = Callable[[torch.device], str]
GATES: dict[str, tuple[Gate, int]] = {
    "0 environment": (gates.environment, 120),
    "1 encode": (gates.encode, 180),
    "2 sample": (gates.sample, 180),
    "3 graphs": (gates.graphs, 240),
    "4 compiled steps": (partial(gates.graphs, compiled=True), 300),
    "5 overlap": (painters.overlap, 180),
    "6 memory": (painters.memory, 180),
    "7 training": (gates.training, 240),
    "8 on Ray": (on_ray.on_ray, 420),
    "9 speed: peaks": (speed.peaks, 120),
    "9 speed: VQGAN": (speed.vqgan, 300),
    "9 speed: training, base": (partial(speed.training, size="base"), 240),
    "9 speed: training, large": (partial(speed.training, size="large"), 240),
    "9 speed: sampling, base": (partial(speed.sampling, size="base"), 240),
    "9 speed: sampling, large": (partial(speed.sampling, size="large"), 240),
    "9 speed: painting, base": (partial(speed.painting, size="base"), 300),
    "9 speed: painting, large": (partial(speed.painting, size="large"), 300),
}
NOT_QUICK = ("4 compiled", "8", "9")


def main() -> None:
    """Runs the gates, or with --gate one of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without compilation and speed")
    parser.add_argument("--json", default="gpu-check.json", help="where the table goes as JSON")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help=argparse.SUPPRESS)
    parser.add_argument("--gate", choices=GATES, help=argparse.SUPPRESS)
    parser.add_argument("--gates", default="", help="only these: beginnings of names, with commas between")
    args = parser.parse_args()
    if args.gate:
        run_gate(args.gate, torch.device(args.device))
        return
    table = []
    for name in GATES:
        if args.quick and name.startswith(NOT_QUICK):
            continue
        if not name.startswith(tuple(args.gates.split(","))):
            continue
        table.append(in_own_process(name, args.device))
        Path(args.json).write_text(json.dumps(table, indent=1) + "\n")
        print("{result:5} {gate:24} {seconds:6.1f} s  {found}".format(**table[-1]), flush=True)
        if name.startswith("0") and table[-1]["result"] != "pass":
            break
    failed = [row["gate"] for row in table if row["result"] != "pass"]
    if failed:
        sys.exit(f"gpu-check: failed: {', '.join(failed)}")
    print("\ngpu-check: passed\n" + speed.recommended(table))


def run_gate(name: str, device: torch.device) -> None:
    """One gate in this process; exit code 3 if it found something wrong."""
    try:
        print(GATES[name][0](device))
    except gates.Failed as error:
        print(error)
        sys.exit(3)


def in_own_process(name: str, device: str) -> dict[str, object]:
    """A gate's line of the table."""
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--gate", name, "--device", device]
    began = time.monotonic()
    limit = GATES[name][1]
    try:
        done = run_within(command, limit)
    except subprocess.TimeoutExpired:
        result, found = "fail", f"not done within {limit} s"
    else:
        lines = (done.stdout if done.returncode in (0, 3) else done.stderr).strip().splitlines()
        result, found = "pass" if done.returncode == 0 else "fail", lines[-1] if lines else ""
    return {"gate": name, "result": result, "seconds": time.monotonic() - began, "found": found}


def run_within(command: list[str], limit: float) -> subprocess.CompletedProcess[str]:
    """Runs a command, and ends it and all that it started when its time is over: a gate's jobs would
    go on beside the gates behind it, whose speeds they would spoil.

    Raises:
        subprocess.TimeoutExpired: it was not done within `limit` seconds.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            said = process.communicate(timeout=limit)
        except BaseException:  # a Ctrl-C too
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, *said)


if __name__ == "__main__":
    main()
