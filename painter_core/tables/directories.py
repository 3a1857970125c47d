"""What a directory is besides a folder of files: a table or a run of ours, or a table of another tool."""

import re

from fsspec.spec import AbstractFileSystem

from painter_core.files.storage import join, read_json, redact
from painter_core.tables.listing import Entry, entries_in, entry_of

# the names that show it, and what knows which of its files count
_FORMATS = {
    "_delta_log": "a Delta table",
    ".hoodie": "a Hudi table",
    "_spark_metadata": "the output of a Spark stream",
    "_transactions": "a Lance data set",
}
_ICEBERG = re.compile(r"version-hint\.text|.*\.metadata\.json(\.gz)?|.*\.avro")
_PAIMON = {"snapshot", "schema", "manifest"}
_BELOW_A_TABLE = re.compile(r"data|bucket-\d+|.*=.*")  # names of directories that other tools make in a table
_PART = re.compile(r"part-\d{6,}\.parquet")


def refuse_other_tables(fs: AbstractFileSystem, directory: Entry, entries: list[Entry]) -> None:
    """Raises ValueError for a directory whose files count only as far as another tool's log says so.

    Args:
        entries: what stands in it.
    """
    names = {entry.name for entry in entries if entry.kind == "directory"}
    what = next((what for name, what in _FORMATS.items() if name in names), "")
    if "metadata" in names and _holds(fs, join(directory.path, "metadata"), _ICEBERG):
        what = "an Iceberg table"
    elif names >= _PAIMON and _holds(fs, join(directory.path, "snapshot"), re.compile("LATEST|snapshot-.*")):
        what = "a Paimon table"
    if what:
        raise ValueError(
            f"{redact(directory.path)}: {what}. Its log says which of the files count: some hold rows that "
            "were deleted or written twice. Let its own tool write the rows as plain Parquet to another "
            "directory (Spark, DuckDB, deltalake, pyiceberg and the like do), and name that"
        )
    if "_temporary" in names:
        raise ValueError(
            f"{redact(directory.path)}: holds _temporary/, so another job is still writing there, or died "
            "while it did. Wait for it; or remove _temporary/ if the files are whole"
        )


def refuse_below_other_tables(fs: AbstractFileSystem, directory: str) -> None:
    """The same for the table in which a directory lies: `TABLE/day=1`, `TABLE/data`."""
    while _BELOW_A_TABLE.fullmatch(directory.rpartition("/")[2]):
        directory = directory.rpartition("/")[0]
        if found := entry_of(fs, directory):
            refuse_other_tables(fs, found, entries_in(fs, found))


def _holds(fs: AbstractFileSystem, path: str, names: re.Pattern[str]) -> bool:
    found = entry_of(fs, path)
    return found is not None and any(names.fullmatch(entry.name) for entry in entries_in(fs, found))


def is_table(fs: AbstractFileSystem, directory: Entry, names: set[str]) -> bool:
    """Whether our jobs wrote a directory, finished or not. A manifest.json alone need not be ours.

    Args:
        names: of what stands in it.
    """
    if "_run" in names:
        return True
    if "manifest.json" not in names:
        return False
    try:
        found = read_json(fs, join(directory.path, "manifest.json"))
    except ValueError:
        if any(_PART.fullmatch(name) for name in names):
            raise
        return False
    return isinstance(found, dict) and "seal" in found


def other_run(fs: AbstractFileSystem, directory: Entry, names: set[str]) -> str:
    """What a run directory of ours is if none of its rows are to be read: a training, or a table that is to
    replace another one when it is complete. Empty if it is neither.

    Args:
        names: of what stands in it.
    """
    if "_run" not in names:
        return ""
    if fs.exists(join(directory.path, "_run", "replaces.json")):
        return "an --overwrite that is not done"
    plan = join(directory.path, "_run", "plan.json")
    try:
        found = {} if "manifest.json" in names or not fs.exists(plan) else read_json(fs, plan)
    except ValueError:
        return ""  # damaged: a table that is not finished, so that it is refused
    is_training = isinstance(found, dict) and "stage" in found and "units" not in found
    return f"a run of {found['stage']}, no table" if is_training else ""
