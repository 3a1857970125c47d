"""Two drivers of one job: the second is refused, and the first ends as if alone (T12)."""

import json
import os
import signal
import time
from pathlib import Path

from tests.support.jobs import Jobs


def test_two_drivers_of_a_job(jobs: Jobs, pairs: Path, tiny_vqgan: Path, tmp_path: Path) -> None:
    flags = ("--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", tmp_path / "codes")
    first = jobs.start("precompute_codes", *flags)
    while not (tmp_path / "codes" / "_run" / "plan.json").exists():
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGSTOP)  # so that it is at work, however fast the machine is
    try:
        began = time.monotonic()
        printed = jobs.run("precompute_codes", *flags, code=4)
        assert time.monotonic() - began < 10
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert f"process {first.pid}" in printed
    printed, _ = first.communicate(timeout=120)
    assert first.returncode == 0, printed
    assert json.loads((tmp_path / "codes" / "summary.json").read_text())["exit_code"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["codes"]
