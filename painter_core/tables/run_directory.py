"""The directory of a table in our format: its plan, parts, commit records, rejects, manifest and summary.

    part-000000.parquet            one a unit
    rejects/part-000000.parquet    only for units with rejects
    _run/plan.json                 what was to be done; written before any work
    _run/commits/000000.json       written after the part; a unit without one was not done
    manifest.json, _SUCCESS        written last, after rows_in == rows_out + rows_rejected over all units
    summary.json                   how the last run ended
    score.*, scores.parquet, report.html, statistics.npz    what jobs/evaluate.py makes of the parts

`outputs` that end in .tsv or .parquet are one file, made at the end; the directory is then `outputs`.run
beside it. While a run replaces another one (--overwrite), all this stands in a directory beside, with .new to
its name (painter_core.runs.replacement).
"""

import re
from dataclasses import dataclass
from typing import Any

from fsspec.spec import AbstractFileSystem

from painter_core.files.storage import filesystem, join, read_json, redact, write_json
from painter_core.tables.records import read_sealed

SINGLE_FILE = (".tsv", ".parquet")
OURS = re.compile(
    r"\.?part-\d{6,}\.parquet(\.[0-9a-f]{32}\.tmp)?|rejects|_run|_SUCCESS|(manifest|summary|score)\.json|score\.md"
    r"|report\.html|scores\.parquet|statistics(-blur\d+)?\.npz"
)
# what a kill leaves of the first files that a run writes
UNFINISHED = re.compile(r"\.+(plan\.json|replaces\.json|painter)[-.][-.0-9a-z]+")


def part_name(unit: int) -> str:
    """File name of a unit's part, in the table and in rejects/."""
    return f"part-{unit:06d}.parquet"


@dataclass(frozen=True)
class RunDirectory:
    """Where a run writes."""

    outputs: str
    """`--outputs` as given."""
    beside: bool = False
    """Whether it is the place of a run that is to replace the one in `outputs`."""

    @property
    def single_file(self) -> str | None:
        """The suffix, if the output is one file."""
        return next((s for s in SINGLE_FILE if self.outputs.endswith(s)), None)

    @property
    def url(self) -> str:
        """The table directory."""
        root = self.outputs + ".run" if self.single_file else self.outputs.rstrip("/")
        return root + ".new" if self.beside else root

    def path(self, *parts: str) -> tuple[Any, str]:
        """File system and path of something in the directory."""
        fs, root = filesystem(self.url)
        return fs, join(root, *parts) if parts else root

    def read_json(self, *parts: str) -> Any:
        """A JSON file of the directory; None if there is none."""
        try:
            return read_json(*self.path(*parts))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_record(self, unit: int) -> Any:
        """A unit's commit record; None if there is none. ValueError if it was changed."""
        try:  # one request, where asking for it first would be three
            return read_sealed(*self.path("_run", "commits", f"{unit:06d}.json"))
        except FileNotFoundError:
            return None

    def uncommit(self, unit: int) -> None:
        """Marks a unit as not done; its record is removed first, so that a kill leaves nothing half done."""
        fs, path = self.path("_run", "commits", f"{unit:06d}.json")
        fs.rm_file(path)
        for parts in ((part_name(unit),), ("rejects", part_name(unit))):
            if fs.exists(self.path(*parts)[1]):
                fs.rm_file(self.path(*parts)[1])

    def write_json(self, value: Any, *parts: str) -> None:
        """Writes a JSON file of the directory, whole or not at all."""
        write_json(*self.path(*parts), value)

    def is_complete(self) -> bool:
        """Whether a run reached its end here, and what it made is still there: its parts with their commit
        records, and the single file, if the output is one, as long as it was."""
        names = self._names()
        if not {"manifest.json", "_SUCCESS"} <= {*names}:
            return False
        manifest = self.read_json("manifest.json")
        if len(self.committed()) < len(manifest["parts"]):
            return False
        if not self.single_file:
            return True
        fs, path = filesystem(self.outputs)
        expected = manifest.get("joined_bytes")  # older tables have none
        return fs.exists(path) and expected in (None, fs.size(path))

    def committed(self) -> set[int]:
        """Numbers of the units that have a commit record and the part that it names."""
        numbers = [
            {int(found[1]) for name in self._names(*parts) if (found := re.fullmatch(pattern, name))}
            for parts, pattern in (
                (("_run", "commits"), r"(\d{6,})\.json"),
                ((), r"part-(\d{6,})\.parquet"),
            )
        ]
        return numbers[0] & numbers[1]

    def _names(self, *parts: str) -> list[str]:
        fs, path = self.path(*parts)
        return (
            [n.rstrip("/").rsplit("/", 1)[-1] for n in fs.ls(path, detail=False)] if fs.exists(path) else []
        )


def table_url(table: str) -> str:
    """The directory of our table that is named by its single file, X.parquet or X.tsv; else the name."""
    directory = RunDirectory(table)
    is_ours = directory.single_file and directory.read_json("_run", "plan.json") is not None
    return directory.url if is_ours else table


def check_plan(path: str, plan: Any) -> dict[str, Any]:
    """What a plan.json holds, of a table or a training; ValueError if it is none of ours."""
    if not isinstance(plan, dict) or not (
        isinstance(plan.get("stage"), str) and isinstance(plan.get("identity"), dict)
    ):
        raise ValueError(
            f"{redact(path)}: no plan of ours (stage and identity), or damaged; name another directory"
        )
    return plan


def foreign_name(fs: AbstractFileSystem, root: str) -> str:
    """A file that is not ours in a directory without a plan; empty if there is none."""
    for directory in (root, join(root, "_run")):
        for name in sorted(fs.ls(directory, detail=False)) if fs.exists(directory) else []:
            base = name.rstrip("/").rpartition("/")[2]
            if base != "_run" and not UNFINISHED.fullmatch(base):
                return base
    return ""
