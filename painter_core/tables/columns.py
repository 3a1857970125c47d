"""Which columns a job reads, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import pyarrow as pa

PLACE = ("file", "row", "byte_offset")  # further columns of a unit's table: where a row comes from
ROW_NUMBER = "row"  # as --idx-column: not a column, but the row's number
Quoting = Literal["none", "csv"]
Encoding = Literal["utf-8", "gb18030"]  # in neither is a tab or a line end part of another character


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns a job reads, by name."""

    schema: tuple[str, ...]
    """All columns of a TSV, in order."""
    idx: str | None = "idx"
    """Column of the row's key; None: its number in the file, as rejects count it."""
    text: str | None = "text"
    """Column of the caption; None for jobs that read pictures only."""
    image: str | None = None
    """Column of the picture; None for jobs that read captions only."""
    codes: bool = False
    """Whether that column holds a picture's codes, a list of uint16 in Parquet, and no picture."""
    extra: tuple[str, ...] = ()
    """Columns carried through unchanged (--append-cols)."""
    kinds: Mapping[str, pa.DataType] | None = None
    """Of a job that carries on all columns of a Parquet table, whatever they hold: types of the `extra` ones,
    by tables.parquet.plain_kind. A file with other columns is refused."""
    skip_first_line: bool = False
    """The first line of a TSV is no row, whatever it holds."""
    quoting: Quoting = "none"
    """`csv`: cells of a TSV may stand in quotes, as spreadsheets and pandas write them."""
    encoding: Encoding = "utf-8"
    """Encoding of a TSV's text; gb18030 reads GBK and GB2312 too."""

    def __post_init__(self) -> None:
        taken = {*PLACE, *(["image"] if self.image else [])}
        # a job that reads no captions may carry a column of that name through
        taken |= {o for o, theirs in (("idx", self.idx), ("text", self.text or "text")) if o != theirs}
        if clash := sorted(taken & set(self.extra)):
            raise ValueError(f"--append-cols: {clash} are names of our own here; rename the columns")

    @classmethod
    def of_flags(
        cls,
        input_schema: str,
        *,
        idx_column: str = "idx",
        first_sequence: str | None = "text",
        second_sequence: str | None = None,
        extra: tuple[str, ...] = (),
        skip_first_line: bool = False,
        quoting: Quoting = "none",
        encoding: Encoding = "utf-8",
    ) -> Self:
        """What the flags of these names say. Row numbers are taken for idx if --idx-column is `row`, or if it
        is not given and --input-schema names no idx."""
        schema = parse_input_schema(input_schema)
        numbered = idx_column == ROW_NUMBER or (idx_column == "idx" and "idx" not in schema)
        return cls(
            schema=schema,
            idx=None if numbered else idx_column,
            text=first_sequence,
            image=second_sequence,
            extra=extra,
            skip_first_line=skip_first_line,
            quoting=quoting,
            encoding=encoding,
        )

    @property
    def named(self) -> dict[str, str]:
        """Our names of the columns that are read -> their names in the input."""
        ours = {
            "idx": self.idx,
            "text": self.text,
            **{name: name for name in self.extra},
            "image": self.image,
        }
        return {name: theirs for name, theirs in ours.items() if theirs}

    @property
    def read(self) -> tuple[str, ...]:
        """What is taken from a file."""
        return tuple(dict.fromkeys(self.named.values()))


def parse_input_schema(text: str) -> tuple[str, ...]:
    """Names of `--input-schema idx:str:1,text:str:1`; types are checked, and read as strings all the same."""
    names = []
    for field in text.split(","):
        parts = [part.strip() for part in field.split(":")]
        typed = len(parts) == 1 or (len(parts) == 3 and parts[1] in ("str", "int", "float"))
        if not typed or not parts[0]:
            raise ValueError(f"--input-schema: {field!r} is not name:type:length with type str, int or float")
        names.append(parts[0])
    if len(set(names)) != len(names):
        raise ValueError(f"--input-schema: a name stands twice in {names}")
    return tuple(names)
