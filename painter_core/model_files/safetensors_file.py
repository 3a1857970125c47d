"""Names and shapes in a safetensors file, held against what a model needs before a tensor is read."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

MAX_HEADER_BYTES = 16 * 2**20


def check_safetensors(file: Path, expected: dict[str, list[int]]) -> None:
    """Compares a file's tensor names and shapes with the expected ones, reading only its header.

    Raises:
        ValueError: names what is missing, unexpected or misshapen, or says that the file is damaged.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    with file.open("rb") as raw:
        header_bytes = int.from_bytes(raw.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"{file}: header of {header_bytes:,} bytes; this is not a model of ours")
    try:
        with safe_open(file, framework="pt") as tensors:
            found = {k: list(tensors.get_slice(k).get_shape()) for k in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged ({error}); copy it again") from None
    compare_tensors(str(file), found, expected)


def read_metadata(file: Path) -> dict[str, str]:
    """The strings that a safetensors file carries beside its tensors."""
    with safe_open(file, framework="pt") as tensors:
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
