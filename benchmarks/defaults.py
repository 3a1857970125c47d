"""Painting with no flag of speed given: the whole job under Ray beside EasyNLP's algorithm, in one run.

The baseline paints batches of 16, as EasyNLP's examples do; it is measured before the job and after it, since
the machine's other work may come and go.
"""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import processes
from benchmarks.jobs import ROOT, command_of, steady_rate, write_prompts, write_random_model
from benchmarks.limits import Peaks
from benchmarks.measure import Row, Setup
from benchmarks.models import gpt_config, make_vqgans
from benchmarks.painting import Composed
from painter_core.models.gpt import GPT

BATCH = 16  # of the baseline
CAPTIONS = 512  # so many that a model call has its full size


def generate(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """Captions to PNGs: base with f16_16384, by `generate.py --tables --checkpoint-dir --outputs` alone."""
    count, batch = (16, 2) if setup.short else (CAPTIONS, BATCH)
    model, (plain, _) = GPT(gpt_config(setup, "base")).eval().to(setup.device), make_vqgans(setup)
    baseline = Composed(model, plain, batch, setup)
    baseline()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_model(folder / "model", setup, gpt=True)
        table = write_prompts(folder / "prompts.tsv", count)
        flags = ["--tables", table, "--checkpoint-dir", folder / "model", "--outputs", folder / "out"]
        done = processes.run(command_of("generate", flags), ROOT)
        steady = steady_rate(folder / "out") if not setup.short else count / done.seconds
    baseline()
    rate = batch / statistics.mean(baseline.seconds)
    spread = (max(baseline.seconds) - min(baseline.seconds)) / statistics.mean(baseline.seconds)
    part = "generate job, default flags"
    note = f"composed, batches of {batch}, before and after the job"
    yield Row(part=part, variant="EasyNLP", rate=rate, unit="picture/s", ratio=1.0, spread=spread, note=note)
    whole = count / done.seconds
    yield Row(
        part=part, variant="whole job", rate=whole, unit="picture/s", ratio=whole / rate,
        peak_bytes=done.peak_bytes, note=f"{count} captions in {done.seconds:.0f} s, start and end included",
    )  # fmt: skip
    yield Row(
        part=part, variant="without its start", rate=steady, unit="picture/s", ratio=steady / rate,
        note="from the first unit's commit on",
    )  # fmt: skip
