"""A score as columns of text, a row a table: what score.md and the report's table show."""

from collections.abc import Iterator
from dataclasses import dataclass

from painter_core.evaluation.score import Attributes, Reconstruction, Score, TableScore
from painter_core.text.escape import visible


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number of one table."""

    title: str
    value: float | None
    better: str
    """`lower`, `higher`, or empty where neither is better."""
    form: str
    """How it is written."""
    spread: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        spread = "" if self.spread is None else f" ± {self.form.format(self.spread)}"
        return self.form.format(self.value) + spread


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric over all tables."""

    title: str
    better: str
    cells: tuple[str, ...]
    """A text a table."""
    best: int | None
    """The table with the best value, where there are several and one is best."""


def columns(score: Score) -> list[Column]:
    """What any of the tables has a value for, or a reason for having none."""
    found = [{m.title: m for m in measured(table)} for table in score.tables]
    named = {title: m for table in found for title, m in table.items()}
    return [_column(named[title], [table.get(title) for table in found]) for title in named]


def _column(like: Measured, found: list[Measured | None]) -> Column:
    values = [m.value if m else None for m in found]
    known = [value for value in values if value is not None]
    best = None
    if like.better and len(known) > 1 and min(known) < max(known):
        best = values.index(min(known) if like.better == "lower" else max(known))
    cells = tuple(str(m) if m else "-" for m in found)
    return Column(title=like.title, better=like.better, cells=cells, best=best)


def measured(table: TableScore) -> Iterator[Measured]:
    """All numbers of a table, in the order in which they are shown."""
    yield Measured(title="pictures", value=table.rows.pictures, better="", form="{:,}")
    yield Measured(title="rejected rows", value=table.rows.rows_rejected, better="", form="{:,}")
    for fid in table.fid:
        title = f"FID-{fid.blur}" if len(table.fid) > 1 or fid.blur else "FID"
        yield Measured(title=title, value=fid.value, better="lower", form="{:.3f}")
    if (kid := table.kid) is not None:
        spread = 1000 * kid.deviation if kid.subsets > 1 else None
        value = 1000 * kid.mean
        yield Measured(title="KID x 1000", value=value, better="lower", form="{:.3f}", spread=spread)
    if (found := table.inception_score) is not None:
        yield Measured(title="IS", value=found.mean, better="higher", form="{:.3f}", spread=found.deviation)
    if (clip := table.clip) is not None:
        yield Measured(title="CLIP cosine", value=clip.score, better="higher", form="{:.4f}")
        yield Measured(title="shuffled captions", value=clip.shuffled, better="", form="{:.4f}")
        for k, recall in ((1, clip.recall_at_1), (10, clip.recall_at_10)):
            yield Measured(title=f"R@{k} of {clip.among}", value=recall, better="higher", form="{:.1%}")
    if (likely := table.likelihood) is not None:
        yield Measured(title="bits a code", value=likely.bits_per_code, better="lower", form="{:.4f}")
    if (captions := table.caption) is not None:
        value = captions.nats_per_token
        yield Measured(title="caption nats a token", value=value, better="lower", form="{:.4f}")
    if table.attributes is not None:
        yield from _of_attributes(table.attributes)
    if table.reconstruction is not None:
        yield from _of_reconstruction(table.reconstruction)


def _of_attributes(found: Attributes) -> Iterator[Measured]:
    shares = found.shares | {"single attributes": found.single, "all right": found.all_right}
    for name, share in shares.items():
        yield Measured(title=name, value=share, better="higher", form="{:.1%}")


def _of_reconstruction(found: Reconstruction) -> Iterator[Measured]:
    yield Measured(title="PSNR dB", value=found.psnr, better="higher", form="{:.2f}")
    yield Measured(title="SSIM", value=found.ssim, better="higher", form="{:.4f}")
    if found.lpips is not None:
        yield Measured(title="LPIPS", value=found.lpips, better="lower", form="{:.4f}")
    if found.rfid is not None:
        yield Measured(title="rFID", value=found.rfid.value, better="lower", form="{:.3f}")


def to_markdown(score: Score) -> str:
    """score.md: the table, what it was made with and held against, and the notes."""
    found = columns(score)
    named = len(score.tables) > 1
    lines = [["table"] * named + [c.title for c in found]]
    lines.append(["---"] * len(lines[0]))
    lines += [[visible(t.name)] * named + [c.cells[i] for c in found] for i, t in enumerate(score.tables)]
    table = "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
    remarks = [f"{name}: {value}" for name, value in facts(score)] + remarks_of(score)
    return table + ("\n" + "".join(f"- {visible(line)}\n" for line in remarks) if remarks else "")


def remarks_of(score: Score) -> list[str]:
    """Why values are missing, and what a reader must know before comparing."""
    missing = [f"{t.name}: no {metric}: {why}" for t in score.tables for metric, why in t.why.items()]
    return [*missing, *score.notes]


def facts(score: Score) -> list[tuple[str, str]]:
    """Name and value of what the numbers depend on."""
    found = []
    if (reference := score.reference) is not None:
        n = "unknown number of" if reference.n is None else f"{reference.n:,}"
        found.append(("reference", f"{reference.path}, {n} pictures"))
    named = [(t.name, t.rows) for t in score.tables]
    if reference is not None and reference.rows is not None:
        named.append(("the reference", reference.rows))
    for name, rows in named:
        shown = (", ".join(f"{n:,} {what}" for what, n in c.items()) for c in (rows.formats, rows.sizes) if c)
        found.append((f"formats and sizes in {name}", "; ".join(shown)))
        if rows.rejected:
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in rows.rejected.items())
            found.append(
                (f"rejected of {name}", f"{rows.rows_rejected:,} of {rows.rows_in:,} rows: {reasons}")
            )
    return [*((name, value) for name, value in found if value), *score.made_with.items()]
