"""checkpoint.json of a model directory: size and sha256 of every file, so that damage is found on loading.

    {"files": {"gpt.safetensors": {"bytes": 1, "sha256": "..."}, ...}, ...}

A directory without one (EasyNLP's, or one put together by hand) is taken as it is.
"""

from pathlib import Path
from typing import Any

from painter_core.files.storage import file_sha256, filesystem, read_json, write_json

MARKER = "checkpoint.json"


def write_sums(directory: Path, **more: Any) -> None:
    """Writes checkpoint.json over all files of a directory, with further entries."""
    files = sorted(p for p in directory.rglob("*") if p.is_file() and p != directory / MARKER)
    sums = {
        str(p.relative_to(directory)): {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in files
    }
    fs, path = filesystem(str(directory / MARKER))
    write_json(fs, path, {"files": sums, **more})


def read_sums(directory: Path) -> dict[str, dict[str, Any]] | None:
    """File name -> bytes and sha256; None if the directory has no checkpoint.json.

    Raises:
        ValueError: checkpoint.json is damaged.
    """
    if not (directory / MARKER).is_file():
        return None
    fs, path = filesystem(str(directory / MARKER))
    content = read_json(fs, path)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not all(
        isinstance(f, dict) and {"bytes", "sha256"} <= set(f) for f in files.values()
    ):
        raise ValueError(f"{path}: holds no sums; it was damaged or is not ours")
    assert isinstance(files, dict)
    return files


def problem(directory: Path, name: str, expected: dict[str, Any], found_sha256: str = "") -> str | None:
    """What is wrong with a file, by its entry of checkpoint.json; None if nothing is.

    Args:
        found_sha256: the file's sha256, if it is known already.
    """
    file = directory / name
    if not file.is_file():
        return f"{name} is missing"
    size = file.stat().st_size
    if size != expected["bytes"]:
        return f"{name} has {size:,} bytes, expected {expected['bytes']:,}"
    if (found_sha256 or file_sha256(file)) != expected["sha256"]:
        return f"{name} is damaged (sha256 differs)"
    return None


def checked_sha256(file: Path) -> str:
    """The sha256 of a file of a model directory.

    Raises:
        ValueError: checkpoint.json, if there is one, says something else.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; copy the model again")
    found = file_sha256(file)
    expected = (read_sums(file.parent) or {}).get(file.name)
    if expected and (what := problem(file.parent, file.name, expected, found)):
        raise ValueError(f"{file.parent}: {what}, as {MARKER} says; copy the model again")
    return found
