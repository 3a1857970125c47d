"""Arrays on disk: their room is taken when they are made, so that a full disk is an error, never a signal."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from painter_core.files.arrays import create_array, shorten_array
from tests.support.jobs import ROOT

SHAPE = (1000, 7, 5)
# a small disk of this process' own; without privileges the kernel may allow it in a user namespace
SMALL_DISK = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
HAS_SMALL_DISKS = subprocess.run([*SMALL_DISK, "mount -t tmpfs tmpfs /mnt"], check=False).returncode == 0


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


@pytest.mark.parametrize("shape", [SHAPE, (1,), (0, 4)])
def test_what_is_written_is_read(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = create_array(tmp_path / "a.npy", np.uint16, shape)
    array[:] = numbers(shape)
    array.flush()
    found = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert (found.dtype, found.shape) == (np.uint16, shape)
    assert (found == numbers(shape)).all()


def test_the_room_is_taken_at_once(tmp_path: Path) -> None:
    create_array(tmp_path / "a.npy", np.uint8, (2**22,))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 2**22


def test_more_than_the_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    too_many = shutil.disk_usage(tmp_path).free + 2**30
    with pytest.raises(OSError, match="bytes are free") as caught:
        create_array(tmp_path / "a.npy", np.uint8, (too_many,))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [999, 1, 0, 1000])
def test_an_array_is_shortened_in_its_place(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = create_array(path, np.uint16, SHAPE)
    array[:] = numbers(SHAPE)
    inode, before = path.stat().st_ino, path.stat().st_size
    shorten_array(path, rows)
    found = np.load(path)
    assert found.shape == (rows, *SHAPE[1:])
    assert (found == numbers(SHAPE)[:rows]).all()
    assert path.stat().st_ino == inode, "it was copied"
    assert path.stat().st_size == before - (1000 - rows) * 7 * 5 * 2


FILL = """
import sys
from pathlib import Path
import numpy as np
from painter_core.files.arrays import create_array
try:
    create_array(Path("/mnt/a.npy"), np.uint8, (int(sys.argv[1]),))[:] = 1
except OSError as error:
    print(error.errno)
"""


@pytest.mark.skipif(not HAS_SMALL_DISKS, reason="no user namespaces here, so no disk of this test's own")
@pytest.mark.parametrize(("size", "expected"), [(2**20, ""), (3 * 2**20, f"{errno.ENOSPC}\n")])
def test_a_full_disk_is_an_error_and_no_signal(size: int, expected: str) -> None:
    """Without its room taken, an array on a full disk ends the process that writes it by SIGBUS."""
    script = f'mount -t tmpfs -o size=2m tmpfs /mnt && exec "{sys.executable}" -c "$0" {size}'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*SMALL_DISK, script, FILL], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
