"""The page of a table: counts, rejects, samples, captions, pictures, codes, speed, settings, sources."""

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from painter_core.files.storage import filesystem, join, redact
from painter_core.images.embed import embed
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import Report, inspect
from painter_core.stages.report.page import NOT_ENDED, Count, Fact, Page, Picture, Section
from painter_core.stages.report.settings import facts, origin, origins
from painter_core.stages.report.statistics import caption_facts, code_facts, picture_facts
from painter_core.tables.run_directory import RunDirectory
from painter_core.text.escape import cut, visible
from schemas.rejects import REASONS, WARNINGS

MOST_ROWS, MOST_PICTURES = 20_000, 300  # that are read and decoded, evenly spread
SAMPLES = 24
MOST_RECORDS = 500  # that are read for the speed


def table_page(run_dir: str, plan: dict[str, Any], page: str) -> Page:
    """The page of a table run.

    Args:
        run_dir: the table as it was given to its job as --outputs.
        plan: its plan.json.
        page: where the page will be, for links.

    Raises:
        ValueError: a part or record was changed or is missing.
    """
    directory = RunDirectory(run_dir)
    with tempfile.TemporaryDirectory(prefix="painter-report-") as folder:
        outputs = str(Path(folder, "samples"))
        config = InspectConfig(
            tables=run_dir, outputs=outputs, max_rows=MOST_ROWS, max_pictures=MOST_PICTURES
        )
        report = inspect(config, samples=SAMPLES)
        pictures = tuple(_samples(report))
    assert report.run is not None
    summary = directory.read_json("summary.json") or {}
    is_whole = directory.is_complete()
    name = run_dir.rstrip("/").rpartition("/")[2]
    return Page(
        title=visible(f"{report.kind.capitalize()}: {name}"),
        subtitle=visible(f"{redact(run_dir)}, {plan['stage']}, fingerprint {plan['fingerprint'][:16]}"),
        state="complete" if is_whole else "not finished",
        is_good=is_whole,
        remark="" if is_whole else visible(redact(str(summary.get("message") or NOT_ENDED))),
        tiles=_tiles(report, summary),
        sections=tuple(s for s in _sections(directory, plan, report, pictures, page) if _is_filled(s)),
    )


def _is_filled(section: Section) -> bool:
    return bool(section.facts or section.counts or section.pictures or section.rows or section.lines)


def _sections(
    directory: RunDirectory, plan: dict[str, Any], report: Report, pictures: tuple[Picture, ...], page: str
) -> Iterator[Section]:
    yield _score(directory, page)
    yield Section(title="Rejected rows", counts=_counts(report.rejects, REASONS), lines=_lines(report))
    yield Section(title="Kept, but noticed", counts=_counts(report.warnings, WARNINGS))
    yield Section(title="Samples", pictures=pictures, lines=() if pictures else _texts(report))
    yield Section(title="Captions", facts=caption_facts(report.captions))
    if report.pictures is not None:
        yield Section(title="Pictures", facts=picture_facts(report.pictures))
    if report.codes is not None:
        yield Section(title="Codes", facts=code_facts(report.codes))
    yield Section(title="Speed", facts=_speed(directory))
    yield Section(title="Settings", facts=facts(_settings(plan)))
    paths = [file["path"] for file in plan["files"]]
    rejects = directory.path("rejects")
    kept = (origin("rejected rows", rejects[1], page),) if rejects[0].exists(rejects[1]) else ()
    yield Section(title="Made from", facts=(*origins("tables", paths, page), *kept))


def _settings(plan: dict[str, Any]) -> dict[str, Any]:
    """What makes the rows, and what else must be the same when the run is resumed."""
    found = {**plan["identity"], **plan["settings"]}
    return {name: value for name, value in found.items() if name not in ("stage", "format")}


def _tiles(report: Report, summary: dict[str, Any]) -> tuple[Fact, ...]:
    run = report.run or {}
    share = run["rows_rejected"] / max(run["rows_in"], 1)
    found = [
        Fact(name="rows in", value=f"{run['rows_in']:,}"),
        Fact(name="rows out", value=f"{run['rows_out']:,}"),
        Fact(name="rejected", value=f"{run['rows_rejected']:,} ({share:.1%})"),
        Fact(name="units done", value=f"{run['units_done']:,} of {run['units_done'] + run['units_left']:,}"),
        Fact(name="size", value=_size(report.num_bytes)),
    ]
    if summary.get("rows_per_s"):
        found.append(Fact(name="rows/s of the last run", value=f"{summary['rows_per_s']:,.1f}"))
    if "seconds" in summary:
        found.append(Fact(name="last run took", value=str(timedelta(seconds=round(summary["seconds"])))))
    return tuple(found)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:,.1f} kB"


def _counts(found: dict[str, int], meanings: dict[str, str]) -> tuple[Count, ...]:
    return tuple(
        Count(name=visible(name), count=count, meaning=meanings.get(name, ""))
        for name, count in found.items()
        if count
    )


def _lines(report: Report) -> tuple[str, ...]:
    return tuple(cut(line, 400) for line in report.rejected)


def _samples(report: Report) -> Iterator[Picture]:
    for sample in report.samples:
        if sample.file is not None:
            with contextlib.suppress(ValueError):  # one that no browser shows
                picture = embed(Path(filesystem(sample.file)[1]).read_bytes())
                yield Picture(picture=picture, caption=visible(sample.text), detail=visible(sample.idx))


def _texts(report: Report) -> tuple[str, ...]:
    """Captions of a table without pictures."""
    return tuple(cut(f"{sample.idx}: {sample.text}", 400) for sample in report.samples if sample.text)


def _speed(directory: RunDirectory) -> tuple[Fact, ...]:
    """Where the time of the workers went, by commit records, evenly spread if there are many."""
    units = sorted(directory.committed())
    records = [directory.read_record(unit) for unit in units[:: len(units) // MOST_RECORDS + 1]]
    rows = sum(record["rows_in"] for record in records)
    found = []
    for name, title in (("model_s", "in the model"), ("write_s", "writing")):
        seconds = sum(record.get(name, 0.0) for record in records)
        if seconds:
            rate = f"{rows / seconds:,.1f} rows/s"
            of_units = f"{seconds:,.1f} s of a worker's time for {len(records):,} of {len(units):,} units"
            found.append(Fact(name=title, value=f"{rate}: {of_units}"))
    return tuple(found)


def _score(directory: RunDirectory, page: str) -> Section:
    """What score.md says, as a table and remarks."""
    fs, path = directory.path("score.md")
    lines = fs.cat_file(path).decode().splitlines() if fs.exists(path) else []
    rows = [
        [visible(cell.strip()) for cell in line.strip("|").split(" | ")] for line in lines if line[:1] == "|"
    ]
    remarks = tuple(visible(line.removeprefix("- ")) for line in lines if line.startswith("- "))
    link = origin("report on the score", join(directory.url, "report.html"), page)
    return Section(
        title="Score",
        rows=tuple(tuple(row) for row in rows if set("".join(row)) - set("- ")),
        lines=remarks,
        facts=(link,) if lines else (),
    )
