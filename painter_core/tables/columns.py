"""Which columns a job reads, by name."""

from dataclasses import dataclass

PLACE = ("file", "row", "byte_offset")  # columns that a unit's table has besides: where a row comes from


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns a job reads, by name."""

    schema: tuple[str, ...]
    """All columns of a TSV, in order."""
    idx: str = "idx"
    text: str = "text"
    image: str | None = None
    """Column of the picture; None for jobs that read captions only."""
    extra: tuple[str, ...] = ()
    """Columns carried through unchanged (--append-cols)."""
    skip_first_line: bool = False
    """The first line of a TSV is no row, whatever it holds."""

    def __post_init__(self) -> None:
        taken = {*PLACE, *(["image"] if self.image else [])}
        taken |= {ours for ours, theirs in (("idx", self.idx), ("text", self.text)) if ours != theirs}
        if clash := sorted(taken & set(self.extra)):
            raise ValueError(f"--append-cols: {clash} are names of our own here; rename the columns")

    @property
    def named(self) -> dict[str, str]:
        """Our names of the columns that a unit's table has -> their names in the input."""
        names = {"idx": self.idx, "text": self.text, **{name: name for name in self.extra}}
        return names | ({"image": self.image} if self.image else {})

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
