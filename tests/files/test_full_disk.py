"""A disk that fills up while libraries write: an error that says so, and room again when it is over."""

import os
import subprocess
import sys

import pytest

from tests.files.test_arrays import HAS_SMALL_DISKS, SMALL_DISK
from tests.support.jobs import ROOT

CHECKPOINT = """
from painter_core.training.checkpoints import save_checkpoint
save_checkpoint(disk / "model", 1, write, keep=2)
"""
CACHE = """
from painter_core.files.cache import build_once
build_once("a", write)
"""
PLACES = {"checkpoint": CHECKPOINT, "cache": CACHE}
WRITERS = {
    "torch": "torch.save({'a': numbers}, directory / 'state.pt')",
    "safetensors": "safetensors.torch.save_file({'a': numbers}, directory / 'a.safetensors')",
    "python": "(directory / 'a').write_bytes(numbers.numpy())",
}
SCRIPT = """
import safetensors.torch, torch
from pathlib import Path
disk, numbers = Path("/mnt"), torch.zeros(2**20)
def write(directory):
    {writer}
try:
    {place}
except OSError as error:
    print(error.errno, error)
print(sorted(str(p) for p in disk.rglob("*") if p.is_file()))
"""


@pytest.mark.skipif(not HAS_SMALL_DISKS, reason="no user namespaces here, so no disk of this test's own")
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_is_named(place: str, writer: str) -> None:
    script = SCRIPT.format(writer=WRITERS[writer], place=PLACES[place].strip().replace("\n", "\n    "))
    shell = f'mount -t tmpfs -o size=2m tmpfs /mnt && exec "{sys.executable}" -c "$0"'
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PAINTER_CACHE": "/mnt/cache"}
    done = subprocess.run(
        [*SMALL_DISK, shell, script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    said, left = done.stdout.splitlines()
    assert said.startswith("28 ")
    assert "disk is full" in said or "No space left on device" in said
    assert ("PAINTER_CACHE" in said) == (place == "cache")
    assert left == "[]"
