"""Mean and covariance of features: streamed in float64, kept in a file, read from others' files.

X rows of D features. The order of the rows decides the last bits; the sizes of the tables that they came in
do not, since rows are taken in blocks of one size.
"""

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.npyio import NpzFile

from painter_core.files.storage import filesystem, write_bytes

BLOCK_ROWS = 512
ABOUT = ("resize", "blur", "weights_sha256")  # what must agree for two sets to be comparable


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Mean (D,) and unbiased covariance (D, D) of a set of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray
    n: int | None
    """Rows; None where a file does not say it."""
    about: dict[str, str] = field(default_factory=dict)
    """How the features were made, by names of ABOUT; what a file does not say is not there."""


def blocks(tables: Iterable[np.ndarray], rows: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
    """The rows of arrays (X, ...) one after the other, in blocks of `rows`; the last one may be shorter."""
    held: list[np.ndarray] = []
    count = 0
    for table in tables:
        while len(table):
            held.append(table[: rows - count])
            count += len(held[-1])
            table = table[len(held[-1]) :]
            if count == rows:
                yield np.concatenate(held)
                held, count = [], 0
    if held:
        yield np.concatenate(held)


def statistics(tables: Iterable[np.ndarray], about: dict[str, str] | None = None) -> Statistics:
    """Mean and covariance of all rows.

    Sums are taken of differences from the first row: equal rows have a covariance of exactly 0, and a large
    mean costs no digits.

    Raises:
        ValueError: fewer than 2 rows.
    """
    count, first = 0, np.zeros(0)
    total, products = np.zeros(0), np.zeros((0, 0))
    for block in blocks(tables):
        if count == 0:
            first, d = block[0].astype(np.float64), block.shape[1]
            total, products = np.zeros(d), np.zeros((d, d))
        off = block - first  # float64
        total += off.sum(0)
        products += off.T @ off
        count += len(block)
    if count < 2:
        raise ValueError(f"mean and covariance: got {count} rows, expected at least 2")
    mean = total / count
    covariance = (products - count * np.outer(mean, mean)) / (count - 1)
    return Statistics(mean=first + mean, covariance=covariance, n=count, about=about or {})


def save_statistics(path: str, found: Statistics) -> None:
    """Writes X.npz: mu and sigma as pytorch-fid reads them, n and what is known about the features."""
    out = io.BytesIO()
    extra = {name: np.array(value) for name, value in found.about.items()}
    if found.n is not None:
        extra["n"] = np.array(found.n)
    np.savez(out, mu=found.mean, sigma=found.covariance, **extra)  # type: ignore[arg-type]
    write_bytes(*filesystem(path), out.getvalue())


def load_statistics(path: str, features: int) -> Statistics:
    """Reads X.npz with mu and sigma: ours, pytorch-fid's, or that of a published reference.

    Args:
        features: D that is expected.

    Raises:
        ValueError: it is no such file, or mean and covariance are not those of D features.
    """
    fs, inner = filesystem(path)
    most = 8 * features**2 + 4096  # bytes of an array that is expected, its header included
    try:
        with fs.open(inner, "rb") as file, NpzFile(file, allow_pickle=False) as archive:
            names = [name for name in archive.files if name in ("mu", "sigma", "n", *ABOUT)]
            sizes = {entry.filename: entry.file_size for entry in zipfile.ZipFile(file).infolist()}
            if any(sizes[f"{name}.npy"] > most for name in names):
                raise ValueError(f"its arrays are larger than those of {features} features")
            found = {name: archive[name] for name in names}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read as statistics (.npz with mu and sigma): {error}") from None
    if not {"mu", "sigma"} <= set(found):
        raise ValueError(f"{path}: holds no mu and sigma; expected the statistics of a reference")
    mean, covariance = (np.asarray(found[name], np.float64) for name in ("mu", "sigma"))
    if mean.shape != (features,) or covariance.shape != (features, features):
        shapes = f"mu {mean.shape} and sigma {covariance.shape}"
        raise ValueError(f"{path}: {shapes}, expected ({features},) and ({features}, {features})")
    scale = float(np.abs(covariance).max())
    if not np.isfinite(mean).all() or not np.isfinite(scale):
        raise ValueError(f"{path}: mu or sigma holds values that are not finite")
    if np.abs(covariance - covariance.T).max() > 1e-6 * scale:
        raise ValueError(f"{path}: sigma is not symmetric; it is no covariance")
    n = int(found["n"]) if "n" in found else None
    about = {name: str(found[name]) for name in ABOUT if name in found}
    return Statistics(mean=mean, covariance=covariance, n=n, about=about)
