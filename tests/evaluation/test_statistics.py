"""Mean and covariance: as numpy's, the same to the bit however the rows are cut; kept in files and read."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from painter_core.evaluation.statistics import blocks, load_statistics, save_statistics, statistics

D = 32
ROWS = 1300


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.RandomState(0).gamma(2.0, 0.2, (ROWS, D)).astype(np.float32)


def test_they_are_numpys(x: np.ndarray) -> None:
    found, wide = statistics([x]), x.astype(np.float64)
    np.testing.assert_allclose(found.mean, wide.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(wide, rowvar=False), rtol=0, atol=1e-15)
    assert found.n == ROWS


def test_a_large_mean_costs_no_digits(x: np.ndarray) -> None:
    moved = statistics([x.astype(np.float64) + 1e6])
    np.testing.assert_allclose(moved.covariance, statistics([x]).covariance, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cut", [1, 7, 512, 513])
def test_parts_of_any_size_give_the_same_bits(x: np.ndarray, cut: int) -> None:
    whole, parts = statistics([x]), statistics(x[i : i + cut] for i in range(0, ROWS, cut))
    assert whole.mean.tobytes() == parts.mean.tobytes()
    assert whole.covariance.tobytes() == parts.covariance.tobytes()


@pytest.mark.parametrize("sizes", [[], [0, 0], [5], [512, 512], [1, 511, 0, 700], [1025]])
def test_blocks_hold_all_rows_in_order(sizes: list[int]) -> None:
    whole = np.arange(sum(sizes) * 2).reshape(-1, 2)
    cuts = np.cumsum([0, *sizes])
    found = list(blocks(whole[a:b] for a, b in pairwise(cuts)))
    assert [len(block) for block in found[:-1]] == [512] * (len(found) - 1)
    assert not found or 0 < len(found[-1]) <= 512
    np.testing.assert_array_equal(np.concatenate([whole[:0], *found]), whole)


def test_equal_rows_have_a_covariance_of_exactly_0() -> None:
    assert not statistics([np.full((1000, D), 0.1, np.float32)]).covariance.any()


def test_a_file_gives_back_what_was_saved(x: np.ndarray, tmp_path: Path) -> None:
    about = {"resize": "clean", "blur": "2", "weights_sha256": "ab" * 32}
    found = statistics([x], about)
    save_statistics(str(tmp_path / "s.npz"), found)
    read = load_statistics(str(tmp_path / "s.npz"), D)
    np.testing.assert_array_equal(read.mean, found.mean)
    np.testing.assert_array_equal(read.covariance, found.covariance)
    assert (read.n, read.about) == (ROWS, about)


def test_others_files_are_read(x: np.ndarray, tmp_path: Path) -> None:
    """pytorch-fid writes mu and sigma; published references hold more arrays beside them."""
    found = statistics([x])
    pickled = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "s.npz", mu=found.mean, sigma=found.covariance, arr_0=np.zeros(9), other=pickled)
    read = load_statistics(str(tmp_path / "s.npz"), D)
    np.testing.assert_array_equal(read.covariance, found.covariance)
    assert (read.n, read.about) == (None, {})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(D)}, "holds no mu and sigma"),
        ({"arr_0": np.zeros((5, 8, 8, 3))}, "holds no mu and sigma"),
        ({"mu": np.zeros(D), "sigma": np.zeros((D, D - 1))}, r"expected \(32,\) and \(32, 32\)"),
        ({"mu": np.zeros(16), "sigma": np.zeros((16, 16))}, r"mu \(16,\) and sigma \(16, 16\)"),
        ({"mu": np.zeros(64), "sigma": np.zeros((64, 64))}, "larger than those of 32 features"),
        ({"mu": np.full(D, np.nan), "sigma": np.eye(D)}, "not finite"),
        ({"mu": np.zeros(D), "sigma": np.full((D, D), np.inf)}, "not finite"),
        ({"mu": np.zeros(D), "sigma": np.triu(np.ones((D, D)))}, "not symmetric"),
        ({"mu": np.array([{}] * D, dtype=object), "sigma": np.eye(D)}, "cannot be read as statistics"),
    ],
)
def test_what_is_no_statistics_is_refused(arrays: dict, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_statistics(str(tmp_path / "s.npz"), D)


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"text", npy()])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"s\.npz: cannot be read as statistics"):
        load_statistics(str(tmp_path / "s.npz"), D)
    with pytest.raises(ValueError, match=r"gone\.npz: cannot be read"):
        load_statistics(str(tmp_path / "gone.npz"), D)


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "s.npz", mu=np.zeros(D), sigma=np.random.RandomState(0).rand(D, D))
    data = bytearray((tmp_path / "s.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "s.npz").write_bytes(data)
    with pytest.raises(ValueError, match="cannot be read as statistics"):
        load_statistics(str(tmp_path / "s.npz"), D)
