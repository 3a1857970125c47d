"""Compares the files of a table or a model with what was recorded of them, and names each that differs.

Our own tables: plan, commit records and manifest by their seals, parts and rejects by size and sha256, the
VQGAN of a codes table, the single file against its parts, missing and surplus files. A model directory, or a
training's: every file by checkpoint.json. Other tables: whether they can be read to the end.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from painter_core.files.storage import filesystem, is_local, join, redact, sha256
from painter_core.model_files.sums import MARKER, problem, read_sums
from painter_core.tables.inputs import InputFile, find_files
from painter_core.tables.manifest import write_joined
from painter_core.tables.parquet import open_parquet, parquet_footer
from painter_core.tables.plan import fingerprint
from painter_core.tables.records import read_sealed
from painter_core.tables.run_directory import OURS, RunDirectory, part_name
from painter_core.tables.tsv import open_tsv

SCAN_BYTES = 16 * 2**20
_PART = re.compile(r"part-(\d{6,})\.parquet")


def find_problems(name: str) -> list[str]:
    """What is wrong, a line a file, each starting with the file's name; empty if nothing is.

    Raises:
        ValueError: there is no such table or model.
    """
    directory = RunDirectory(name)
    if directory.path()[0].exists(directory.path("_run", "plan.json")[1]):
        return [*_run_problems(directory)]
    models = list(_model_directories(name))
    if models:
        return [line for path in models for line in _model_problems(path)]
    return [line for file in find_files(name) for line in _input_problems(file)]


def is_model(name: str) -> bool:
    """Whether a name is a model directory, or a training's."""
    return bool(next(_model_directories(name), None))


def _run_problems(directory: RunDirectory) -> Iterator[str]:
    plan_file = redact(directory.path("_run", "plan.json")[1])
    try:
        plan = directory.read_json("_run", "plan.json")
        expected = fingerprint(plan["identity"])
    except (ValueError, TypeError, KeyError) as error:
        yield f"{plan_file}: damaged ({error})"
        return
    if expected != plan.get("fingerprint"):
        yield f"{plan_file}: its fingerprint is not that of its content; it was changed or damaged"
    if "units" not in plan:  # a training
        if not is_local(directory.url):
            raise ValueError(
                f"{redact(directory.url)}: a training, which --verify reads on a disk only; copy it "
                "there. Jobs that load its models compare their sums in any case"
            )
        yield from (line for path in _model_directories(directory.url) for line in _model_problems(path))
        return
    records, lines = _records(directory)
    yield from lines
    for record in records.values():
        yield from _part_problems(directory, record)
    yield from _listing_problems(directory, records)
    fs, manifest = directory.path("manifest.json")
    if fs.exists(manifest):
        yield from _manifest_problems(directory, plan, records)
    yield from _vqgan_problems(directory, plan["identity"])


def _records(directory: RunDirectory) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Commit records by unit, and what is wrong with others."""
    fs, root = directory.path("_run", "commits")
    records, lines = {}, []
    for path in sorted(fs.ls(root, detail=False)) if fs.exists(root) else []:
        found = re.fullmatch(r"(\d{6,})\.json", path.rpartition("/")[2])
        if found is None:
            continue  # left by a writer that was killed
        try:
            records[int(found[1])] = read_sealed(fs, path)
        except ValueError as error:
            lines.append(str(error))
    return records, lines


def _part_problems(directory: RunDirectory, record: dict[str, Any]) -> Iterator[str]:
    name = part_name(record["unit"])
    yield from _file_problems(directory, (name,), record["sha256"], record["bytes"])
    if "rejects_sha256" in record:
        yield from _file_problems(directory, ("rejects", name), record["rejects_sha256"])


def _file_problems(
    directory: RunDirectory, name: tuple[str, ...], expected: str, size: int | None = None
) -> Iterator[str]:
    fs, path = directory.path(*name)
    if not fs.exists(path):
        yield f"{redact(path)}: missing"
        return
    data = fs.cat_file(path)
    if size is not None and len(data) != size:
        yield f"{redact(path)}: {len(data):,} bytes, expected {size:,}"
    elif sha256(data) != expected:
        yield f"{redact(path)}: damaged (sha256 differs)"


def _listing_problems(directory: RunDirectory, records: dict[int, dict[str, Any]]) -> Iterator[str]:
    """Files in the directory that no record speaks of."""
    fs, root = directory.path()
    is_finished = fs.exists(join(root, "manifest.json"))
    for place, rejected_only in ((root, False), (join(root, "rejects"), True)):
        for path in sorted(fs.ls(place, detail=False)) if fs.exists(place) else []:
            name = path.rstrip("/").rpartition("/")[2]
            part = _PART.fullmatch(name)
            if part is None:
                # jobs/evaluate.py writes tables of ours inside a table: a reference, the best
                if not (OURS.fullmatch(name) or fs.exists(join(path, "_run", "plan.json"))):
                    yield f"{redact(path)}: surplus, not a file of ours"
                continue
            record = records.get(int(part[1]))
            known = record is not None and ("rejects_sha256" in record or not rejected_only)
            if not known and is_finished:  # else it was being written when the run was ended
                yield f"{redact(path)}: surplus, no commit record speaks of it"


def _manifest_problems(
    directory: RunDirectory, plan: dict[str, Any], records: dict[int, dict[str, Any]]
) -> Iterator[str]:
    fs, path = directory.path("manifest.json")
    try:
        manifest = read_sealed(fs, path)
    except ValueError as error:
        yield str(error)
        return
    if manifest["fingerprint"] != plan["fingerprint"]:
        yield f"{redact(path)}: another fingerprint than _run/plan.json"
    named = {part["name"]: part for part in manifest["parts"]}
    for unit in range(len(plan["units"])):
        part, record = named.get(part_name(unit)), records.get(unit)
        if part is None:
            yield f"{redact(path)}: {part_name(unit)} is missing"
        if record is None:
            yield f"{redact(directory.path('_run', 'commits', f'{unit:06d}.json')[1])}: missing or damaged"
        elif part and (part["sha256"], part["rows"]) != (record["sha256"], record["rows_written"]):
            yield f"{redact(path)}: {part_name(unit)} differs from its commit record"
    for name in ("rows_in", "rows_out"):
        total = sum(record[name] for record in records.values())
        if len(records) == len(plan["units"]) and total != manifest[name]:
            yield f"{redact(path)}: {name} is {manifest[name]:,}, the commit records add up to {total:,}"
    if directory.single_file:
        yield from _joined_problems(directory, manifest["parts"])
    if not fs.exists(directory.path("_SUCCESS")[1]):
        yield f"{redact(directory.path('_SUCCESS')[1])}: missing; submit the job again"


def _joined_problems(directory: RunDirectory, parts: list[dict[str, Any]]) -> Iterator[str]:
    """Problems of the joined file, which must equal the join of its parts."""
    fs, path = filesystem(directory.outputs)
    if not fs.exists(path):
        yield f"{redact(directory.outputs)}: missing"
        return
    expected: Any = _Digest()
    found = _Digest()
    try:
        write_joined(directory, parts, expected)
    except ValueError:
        return  # a part is damaged, which is said of itself
    with fs.open(path, "rb") as file:
        while block := file.read(SCAN_BYTES):
            found.write(block)
    if expected.hexdigest() != found.hexdigest():
        yield f"{redact(directory.outputs)}: not what its parts in {redact(directory.url)} make"


class _Digest(io.RawIOBase):
    """A file that keeps the sha256 of what is written to it."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._sha256.update(data)
        return len(data)

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def _vqgan_problems(directory: RunDirectory, identity: dict[str, Any]) -> Iterator[str]:
    fs, path = directory.path("_run", "vqgan", "vqgan.safetensors")
    if identity.get("stage") != "precompute":
        return
    if not fs.exists(path):
        yield f"{redact(path)}: missing"
    elif sha256(fs.cat_file(path)) != identity["vqgan_sha256"]:
        yield f"{redact(path)}: damaged (sha256 differs from the plan's)"
    fs, config = directory.path("_run", "vqgan", "config.json")
    try:
        json.loads(fs.cat_file(config))
    except (ValueError, OSError) as error:
        yield f"{redact(config)}: missing or damaged ({error})"


def _model_directories(name: str) -> Iterator[Path]:
    if not is_local(name):
        return
    root = Path(filesystem(name)[1])
    candidates = [root, root / "best", root / "last", *sorted(root.glob("checkpoints/step-*"))]
    yield from (path for path in candidates if (path / "config.json").is_file())


def _model_problems(path: Path) -> Iterator[str]:
    try:
        sums = read_sums(path)
    except ValueError as error:
        yield str(error)
        return
    if sums is None:
        yield f"{path / MARKER}: missing, so there is nothing to compare the weights with"
        return
    for name, expected in sums.items():
        if what := problem(path, name, expected):
            yield f"{path / name}: {what}"
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        if str(file.relative_to(path)) not in (*sums, MARKER):
            yield f"{file}: surplus, {MARKER} does not name it"


def _input_problems(file: InputFile) -> Iterator[str]:
    """Problems of an input file: what cannot be read."""
    try:
        if file.kind == "parquet":
            parquet_footer(file)  # or it is no Parquet file
            fs, path = filesystem(file.path)
            with fs.open(path, "rb") as raw, open_parquet(file.path, raw) as parquet:
                for group in range(parquet.num_row_groups):
                    for _ in parquet.iter_batches(1024, row_groups=[group]):
                        pass
            return
        with open_tsv(file) as stream:
            while stream.read(SCAN_BYTES):
                pass
    except ValueError as error:
        yield str(error)
    except (pa.ArrowException, OSError) as error:
        yield f"{redact(file.path)}: damaged: {error}"
