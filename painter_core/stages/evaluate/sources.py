"""The tables of an evaluation, what is computed of each, and where it goes.

One table's scores table is --outputs itself; of several each stands in a folder of --outputs, named after its
table. A --reference that is a table of pictures becomes OUTPUTS/reference.
"""

import dataclasses
import re
from collections import Counter
from dataclasses import dataclass

from painter_core.errors import Refused
from painter_core.files.storage import filesystem, join, redact
from painter_core.runs.flags import OUTPUTS_SCHEMA, PAIRS_SCHEMA, TableFlags
from painter_core.stages.codes_table import check_made_by
from painter_core.stages.evaluate.config import OF_GPT, EvaluateConfig
from painter_core.stages.evaluate.judges import open_judges
from painter_core.stages.evaluate.judging import Judging
from painter_core.tables.columns import ROW_NUMBER, Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.records import read_manifest
from painter_core.tables.run_directory import UNFINISHED, RunDirectory, table_url
from painter_core.tables.search import SUFFIXES
from painter_core.tables.units import plan_units
from schemas import outputs

REFERENCE = "reference"
REPORT = ("score.json", "score.md", "report.html", "scores.parquet")  # beside the tables' folders
# a name, and what a killed run leaves of it: its lock, what was to replace it, a file half written
LEFT = re.compile(r"\.?(.+?)(\.new|\.lock)?(\.[0-9a-f]{32}\.tmp)?")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table to be judged, or the reference."""

    name: str
    flag: str
    table: TableFlags
    columns: Columns
    judging: Judging

    @property
    def row_bytes(self) -> int:
        """About how much is written for a row."""
        return 300 + sum(
            4 * field.type.list_size for field in self.judging.schema() if hasattr(field.type, "list_size")
        )


def plan_sources(config: EvaluateConfig) -> list[Source]:
    """All tables that features are computed of, the judged ones first; models and tables are checked.

    Raises:
        ValueError: a model or table cannot be read, or does not fit the flags.
        Refused: --outputs holds something else.
    """
    judging = open_judges(config)
    names = table_names(config.tables)
    _check_outputs(config, names)
    sources = []
    for name, table in zip(names, config.tables, strict=True):
        place = config.table.outputs if len(names) == 1 else join(config.table.outputs, name)
        flags = dataclasses.replace(config.table, tables=table, outputs=place)
        sources.append(_judged(config, name, flags, judging))
    if config.reference is not None and reference_is_table(config.reference):
        place = join(config.table.outputs, REFERENCE)
        flags = dataclasses.replace(config.table, tables=config.reference, outputs=place, limit=None)
        only = Judging(inception=judging.inception, columns=judging.columns)
        columns = _reference_columns(config)
        sources.append(Source(name=REFERENCE, flag="--reference", table=flags, columns=columns, judging=only))
    for source in sources:
        _check_table(source)
    return sources


def table_names(tables: list[str]) -> list[str]:
    """A short name for each table: the end of its path, as long as it takes to tell them apart."""
    parts = [[p for p in redact(table).rstrip("/").split("/") if p] for table in tables]
    for line in parts:
        suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if line[-1].endswith(s)), "")
        line[-1] = line[-1].removesuffix(suffix) or line[-1]
    for length in range(1, max(len(line) for line in parts) + 1):
        names = ["-".join(line[-length:]) for line in parts]
        if len(set(names)) == len(names) and REFERENCE not in names:
            return names
    twice = [table for table, count in Counter(tables).items() if count > 1]
    raise ValueError(f"--tables: {redact((twice or tables)[0])} cannot be told apart from the others")


def reference_is_table(reference: str) -> bool:
    """Whether features are to be computed of --reference: not if --stats-only or others made them already."""
    if reference.endswith(".npz"):
        return False
    return _kind(reference) != "scores"


def _judged(config: EvaluateConfig, name: str, flags: TableFlags, judging: Judging) -> Source:
    """One of --tables: pictures, or the codes of a codes table."""
    kind = _kind(flags.tables)
    columns = evaluate_columns(config, flags.tables)
    if kind == "codes":
        flags = dataclasses.replace(flags, tables=table_url(flags.tables))
        if not set(config.wanted) <= set(OF_GPT) or judging.likelihood is None or config.attributes:
            raise ValueError(
                f"--tables {redact(flags.tables)}: a codes table, without pictures; of it only "
                "--metrics likelihood and caption can be measured. Decode it, or give the pictures"
            )
        check_made_by(flags.tables, config.checkpoint_dir or "")
        likelihood = dataclasses.replace(judging.likelihood, is_codes=True)
        judging = dataclasses.replace(judging, likelihood=likelihood)
        columns = Columns(schema=("idx", "text", "codes"), image="codes", codes=True)
    elif kind not in ("", "outputs"):
        raise ValueError(f"--tables {redact(flags.tables)}: a table of {kind}, which holds no pictures")
    return Source(name=name, flag="--tables", table=flags, columns=columns, judging=judging)


def _kind(table: str) -> str:
    """Which kind of our tables it is, as its manifest says; empty for others."""
    if RunDirectory(table_url(table)).read_json("_run", "plan.json") is None:
        return ""
    return str(read_manifest(table_url(table)).get("table", ""))


def evaluate_columns(config: EvaluateConfig, table: str) -> Columns:
    """What is read of pictures; of a TSV that generate wrote, its run directory says the columns."""
    flags = config.input
    if flags.input_schema == OUTPUTS_SCHEMA and (schema := _schema_of_outputs(table)):
        flags = dataclasses.replace(flags, input_schema=schema)
    return flags.columns()


def _schema_of_outputs(table: str) -> str:
    """The columns of a TSV that generate wrote; empty for other tables."""
    plan = RunDirectory(table).read_json("_run", "plan.json") if table.endswith(".tsv") else None
    return ",".join((plan or {}).get("settings", {}).get("output_columns", ()))


def _reference_columns(config: EvaluateConfig) -> Columns:
    """What is read of a reference; its idx does not matter."""
    schema, picture = config.reference_schema, config.reference_sequence
    if schema == PAIRS_SCHEMA and _kind(str(config.reference)) == "outputs":
        schema, picture = _schema_of_outputs(str(config.reference)) or OUTPUTS_SCHEMA, outputs.IMAGE_COLUMN
    flags = dataclasses.replace(
        config.input, input_schema=schema, idx_column=ROW_NUMBER, second_sequence=picture
    )
    return flags.columns()


def _check_table(source: Source) -> None:
    """Reads what a plan needs, so that a table of another form is found before hours are spent."""
    try:
        files = find_files(source.table.tables)
        plan_units(files, source.columns, micro_batch_size=16, limit=source.table.limit)
    except ValueError as error:
        if source.flag == "--tables":
            raise
        raise ValueError(
            f"{source.flag}: {error}. Its columns are named by --reference-schema and --reference-sequence"
        ) from None


def _check_outputs(config: EvaluateConfig, names: list[str]) -> None:
    """Refuses a directory that is to hold several tables, and holds something else."""
    fs, path = filesystem(config.table.outputs)
    if len(names) == 1 or not fs.exists(path):
        return
    for entry in sorted(fs.ls(path, detail=False)):
        base = entry.rstrip("/").rpartition("/")[2]
        found = LEFT.fullmatch(base)
        if not (found and found[1] in (*names, REFERENCE, *REPORT)) and not UNFINISHED.fullmatch(base):
            raise Refused(
                f"{redact(config.table.outputs)} holds something else ({base}); name an empty or new "
                "--outputs for the score of several tables"
            )
