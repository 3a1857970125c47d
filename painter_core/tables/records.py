"""Reading back what our jobs wrote: manifest, commit records and parts, none of it on trust.

A record carries the sha256 of its other entries, its seal; a part's is in its commit record and the manifest.
"""

import json
from typing import Any

from fsspec.spec import AbstractFileSystem

from painter_core.files.storage import filesystem, join, read_json, redact, sha256

MAKE_AGAIN = (
    "jobs/inspect_table.py --verify lists what else is, docs/RELIABILITY.md says how it is made again"
)


def read_manifest(directory: str) -> dict[str, Any]:
    """manifest.json of a finished table.

    Raises:
        ValueError: there is none, so the table is unfinished; or it was changed, or a unit's commit record is
            gone.
    """
    fs, path = filesystem(directory)
    manifest = join(path, "manifest.json")
    if not fs.exists(manifest):
        what = f"{redact(directory)}: no manifest.json, so the table is not finished"
        raise ValueError(f"{what}; submit the job that writes it again")
    found = read_sealed(fs, manifest)
    commits = join(path, "_run", "commits")
    listed = fs.ls(commits, detail=False) if fs.exists(commits) else []
    names = {name.rpartition("/")[2] for name in listed}
    for part in found["parts"]:
        record = part["name"].removeprefix("part-").removesuffix(".parquet") + ".json"
        if record not in names:
            raise ValueError(
                f"{redact(join(directory, '_run', 'commits', record))}: missing, though {part['name']} is in "
                "the manifest; copy the table again, whole"
            )
    return found


def seal(record: dict[str, Any]) -> dict[str, Any]:
    """A record with the sha256 of all its other entries."""
    rest = {key: value for key, value in record.items() if key != "seal"}
    return rest | {"seal": sha256(json.dumps(rest, sort_keys=True).encode())}


def read_sealed(fs: AbstractFileSystem, path: str) -> dict[str, Any]:
    """A record that was written with its seal.

    Raises:
        ValueError: it is not what was written.
    """
    record = read_json(fs, path)
    if not isinstance(record, dict) or record != seal(record):
        raise ValueError(
            f"{redact(path)}: its content does not fit its seal; it was changed or damaged; {MAKE_AGAIN}"
        )
    return record


def read_part(path: str, expected: str) -> bytes:
    """The bytes of a table's file; ValueError if it is missing or its sha256 is not the expected one."""
    fs, inner = filesystem(path)
    try:
        data = fs.cat_file(inner)
    except FileNotFoundError:
        raise ValueError(f"{redact(path)}: missing, though the manifest names it") from None
    if sha256(data) != expected:
        raise ValueError(
            f"{redact(path)}: sha256 differs from the manifest; the part was changed or damaged; {MAKE_AGAIN}"
        )
    return data
