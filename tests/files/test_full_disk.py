"""A disk that fills up while libraries write: an error that says so, and room again when it is over."""

import errno
import json
import os
import subprocess
import sys

import pytest

from tests.files.test_arrays import HAS_SMALL_DISKS, SMALL_DISK
from tests.support.jobs import ROOT

PLACES = ("checkpoint", "cache")
WRITERS = ("torch", "safetensors", "python")
# every writer in every place, one after the other, as torch takes long to import: a JSON line for each
SCRIPT = """
import json, safetensors.torch, torch
from pathlib import Path
from painter_core.files.cache import build_once
from painter_core.training.checkpoints import save_checkpoint
disk, numbers = Path("/mnt"), torch.zeros(2**20)
writers = {
    "torch": lambda directory: torch.save({'a': numbers}, directory / 'state.pt'),
    "safetensors": lambda directory: safetensors.torch.save_file({'a': numbers}, directory / 'a.safetensors'),
    "python": lambda directory: (directory / 'a').write_bytes(numbers.numpy()),
}
places = {
    "checkpoint": lambda write: save_checkpoint(disk / "model", 1, write, keep=2),
    "cache": lambda write: build_once("a", write),
}
for place, call in places.items():
    for name, write in writers.items():
        said = None
        try:
            call(write)
        except OSError as error:
            said = [error.errno, str(error)]
        left = sorted(str(p) for p in disk.rglob("*") if p.is_file())
        print(json.dumps({"case": [place, name], "said": said, "left": left}))
"""


METRICS = """
from pathlib import Path
from painter_core.training.metrics import MetricsLog
root = Path("/mnt/model")
log = MetricsLog(root)
log.log(1, train_loss=1.0)
filler, errors = open("/mnt/filler", "wb"), 0
try:
    filler.write(bytes(2**21))
    filler.flush()
except OSError:
    pass
for step in range(2, 400):
    try:
        log.log(step, train_loss=1.0, lr=1.0, grad_norm=1.0)
    except OSError as error:
        assert error.errno == 28, error
        errors += 1
    if step == 200:
        filler.truncate(0)
log.close()
print(errors)
"""


@pytest.mark.skipif(not HAS_SMALL_DISKS, reason="no user namespaces here, so no disk of this test's own")
def test_metrics_on_a_full_disk_are_an_error_and_no_standstill() -> None:
    """A writer in a thread of its own would die there, and every later call wait for it."""
    shell = f'mount -t tmpfs -o size=1m tmpfs /mnt && exec "{sys.executable}" -c "$0"'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*SMALL_DISK, shell, METRICS],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 399


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], dict]:
    """What was said and what is left, by place and writer."""
    shell = f'mount -t tmpfs -o size=2m tmpfs /mnt && exec "{sys.executable}" -c "$0"'
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PAINTER_CACHE": "/mnt/cache"}
    done = subprocess.run(
        [*SMALL_DISK, shell, SCRIPT], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, done.stdout.splitlines())
    return {tuple(line["case"]): line for line in lines}


@pytest.mark.skipif(not HAS_SMALL_DISKS, reason="no user namespaces here, so no disk of this test's own")
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_is_named(place: str, writer: str, found: dict[tuple[str, str], dict]) -> None:
    (number, said), left = found[place, writer]["said"], found[place, writer]["left"]
    assert number == errno.ENOSPC
    assert "disk is full" in said or "No space left on device" in said
    assert ("PAINTER_CACHE" in said) == (place == "cache")
    assert left == []
