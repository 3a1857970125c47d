"""Names, shapes and kinds of numbers in a safetensors file, looked at before a tensor is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from painter_core.model_files.not_weights import check_download

MAX_HEADER_BYTES = 16 * 2**20
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")  # of weights; they become float32


@contextmanager
def open_safetensors(file: Path) -> Iterator[Any]:
    """A safetensors file, of which nothing but the header is read until a tensor is asked for.

    Raises:
        ValueError: no such file, damaged, or something else.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    check_download(file)
    with file.open("rb") as raw:
        header_bytes = int.from_bytes(raw.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"{file}: damaged, or no safetensors file (a header of {header_bytes:,} bytes)")
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged ({error}); copy it again") from None


def check_safetensors(file: Path, expected: dict[str, list[int]]) -> None:
    """Compares a file's tensor names and shapes with the expected ones, reading only its header.

    Raises:
        ValueError: names what is missing, unexpected, misshapen or no float; or the file is damaged.
    """
    with open_safetensors(file) as tensors:
        slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
        found = {name: list(one.get_shape()) for name, one in slices.items()}
        kinds = {name: one.get_dtype() for name, one in slices.items()}
    compare_tensors(str(file), found, expected)
    if other := [f"{name} {kind}" for name, kind in kinds.items() if kind not in FLOATS]:
        raise ValueError(f"{file}: {', '.join(other[:10])}: no floats of at least 8 bits, as weights must be")


def read_metadata(file: Path) -> dict[str, str]:
    """The strings that a safetensors file carries beside its tensors."""
    with open_safetensors(file) as tensors:
        return tensors.metadata() or {}


def compare_tensors(
    file: str, found: dict[str, list[int]], expected: dict[str, list[int]], geometry: str = "config.json"
) -> None:
    """Raises a ValueError that lists names (at most ten of a kind) unless names and shapes are the same."""
    problems = []
    other = [k for k in expected if k in found and found[k] != expected[k]]
    for what, names in (
        ("missing", sorted(set(expected) - set(found))),
        ("unexpected", sorted(set(found) - set(expected))),
        ("misshapen", [f"{k} {found[k]} for {expected[k]}" for k in other]),
    ):
        if names:
            problems.append(
                f"{len(names)} {what}: {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
            )
    if problems:
        raise ValueError(f"{file}: the tensors do not fit {geometry}; " + "; ".join(problems))
