"""Flags of jobs/inspect_table.py."""

from dataclasses import dataclass

from painter_core.flag_checks import check_range
from painter_core.tables.columns import Encoding, Quoting


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Any table -> what it holds."""

    tables: str
    """A table: files, a directory, a glob, or what a job was given as --outputs, also before it was done."""
    input_schema: str | None = None
    """Columns of a TSV, in order: name:type:length; by default idx, text and, if there are three,
    imgbase64."""
    idx_column: str = "idx"
    """Column of the row's key; `row` for its number, which is also taken where there is no column idx."""
    first_sequence: str = "text"
    """Column of the caption."""
    second_sequence: str | None = None
    """Column of the picture; by default imgbase64, image or gen_imgbase64, if there is one."""
    skip_first_line: bool = False
    """Pass over the first line of every TSV, whatever it holds."""
    quoting: Quoting = "none"
    """csv: cells of a TSV may stand in quotes, as spreadsheets and pandas write them."""
    encoding: Encoding = "utf-8"
    """Encoding of a TSV: utf-8, or gb18030, which reads GBK and GB2312 too."""
    vocab: str | None = None
    """vocab.txt, tokenizer.json or a directory with one, to count tokens; by default the built-in
    vocabulary."""
    text_len: int = 32
    """Tokens of a caption that a model sees."""
    max_rows: int = 200_000
    """Read about this many rows, evenly spread; 0 for all."""
    max_pictures: int = 500
    """Decode at most about this many pictures of them."""
    verify: bool = False
    """Compare every file with what was recorded of it; exit code 3 if one is damaged, missing or surplus.
    Takes model directories too."""
    json: str | None = None
    """Write the report to this file."""
    outputs: str | None = None
    """Write up to eight sample pictures to this new directory."""

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {"--tables": self.tables, "--json": self.json, "--outputs": self.outputs}

    def __post_init__(self) -> None:
        check_range("--text-len", self.text_len, 1, 4096)
        check_range("--max-rows", self.max_rows, 0, 2**63 - 1)
        check_range("--max-pictures", self.max_pictures, 0, 2**63 - 1)
