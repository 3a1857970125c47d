"""Arrays on disk (.npy), memory-mapped: made with their room, filled by rows, shortened in their place.

A map of a file with holes is written without a system call, so a disk that fills up meanwhile is no error:
the kernel ends the process with SIGBUS. A file whose blocks are all there cannot run into that.
"""

import errno
import io
import math
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import DTypeLike


def create_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """A new .npy file as a map to write to; zeros at first.

    Raises:
        OSError: the disk has no room for it (ENOSPC, or EDQUOT of a quota), or the file exists.
    """
    header = _header(np.dtype(dtype), shape)
    size = len(header) + math.prod(shape) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(path.parent).free
    if size > free:  # known before a failing allocation has taken the last byte from everybody else
        raise OSError(errno.ENOSPC, f"{size:,} bytes are needed, {free:,} bytes are free", str(path))
    with open(path, "xb") as file:
        file.write(header)
        file.flush()
        os.posix_fallocate(file.fileno(), 0, size)
    return np.load(path, mmap_mode="r+")


def shorten_array(path: Path, rows: int) -> None:
    """Keeps the first rows of a .npy file; nothing is copied, and maps of those rows stay good."""
    with open(path, "r+b") as file:
        dtype, shape = _read_header(file)
        header = _header(dtype, (rows, *shape[1:]))
        # numpy pads the header for the longest number of rows
        assert rows <= shape[0] and len(header) == file.tell()  # noqa: PT018  one condition of one write
        file.seek(0)
        file.write(header)
        file.truncate(len(header) + rows * math.prod(shape[1:]) * dtype.itemsize)


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def _read_header(file: BinaryIO) -> tuple[np.dtype, tuple[int, ...]]:
    assert np.lib.format.read_magic(file) == (1, 0)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return dtype, shape
