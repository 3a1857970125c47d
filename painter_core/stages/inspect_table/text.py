"""A report (report.py) as text for a terminal, with what the table holds made harmless."""

from collections.abc import Iterator

from painter_core.stages.inspect_table.report import Report
from painter_core.stages.inspect_table.stats import CaptionReport, CodeReport, PictureReport
from painter_core.text.escape import visible


def to_text(report: Report) -> str:
    """Some twenty lines: a label, and what there is."""
    return "\n".join(visible(f"{label:<10}{text}") for label, text in _lines(report))


def _lines(report: Report) -> Iterator[tuple[str, str]]:
    run = report.run
    state = "" if run is None else f", {'finished' if run['finished'] else 'not finished'}"
    yield "table", f"{report.table}: {report.kind}{state}"
    yield "files", f"{report.num_files:,}, {report.num_bytes:,} bytes"
    yield "schema", ", ".join(report.schema)
    rejected = sum(report.rejects.values())
    if run is not None:
        ended = f"last exit code {run['last_exit_code']}"
        yield "units", f"{run['units_done']:,} done, {run['units_left']:,} left; {ended}"
        yield "rows", f"{run['rows_in']:,} in, {run['rows_out']:,} out, {run['rows_rejected']:,} rejected"
        yield "made by", f"{run['stage']}, fingerprint {run['fingerprint'][:16]}"
    else:
        yield "rows", f"{report.num_rows:,}"
    if report.rows_read < report.num_rows:
        yield "read", f"{report.rows_read:,} rows, evenly spread: what follows is of these (--max-rows)"
    yield "rejects", _counts(report.rejects) if rejected else "none"
    yield "warnings", _counts(report.warnings) or "none"
    yield "captions", _captions(report.captions)
    shown = f": {', '.join(map(repr, report.idx.examples))}" if report.idx.examples else ""
    yield "idx", f"{report.idx.num_repeated:,} of {report.idx.num_keys:,} stand there again{shown}"
    if report.pictures is not None:
        yield from _pictures(report.pictures)
    if report.picture_cells is not None:
        cells = report.picture_cells
        yield "", f"{cells.num_repeated:,} of {cells.num_keys:,} cells are the same as an earlier one"
    if report.codes is not None:
        yield "codes", _codes(report.codes)
    for sample in report.samples:
        yield "sample", f"{sample.idx!r} {sample.text!r}{'' if sample.file is None else ' ' + sample.file}"
    for line in report.rejected:
        yield "rejected", line


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _captions(found: CaptionReport) -> str:
    return (
        f"{found.mean_tokens:g} tokens, median {found.median_tokens}, 95 % up to {found.p95_tokens}, longest "
        f"{found.max_tokens}; {found.cut_fraction:.1%} cut at {found.text_len}; unknown: "
        f"{found.unk_fraction:.1%} of the tokens, in {found.with_unk_fraction:.1%} of the captions, all of "
        f"{found.num_all_unk:,} captions"
    )


def _pictures(found: PictureReport) -> Iterator[tuple[str, str]]:
    yield (
        "pictures",
        (
            f"{found.num_decoded:,} decoded: {_counts(found.formats)}; {_counts(found.modes)}; median "
            f"{found.median_bytes:,} bytes; {found.num_blank:,} of one colour"
        ),
    )
    yield "", f"sizes {_counts(found.sizes)}"
    if found.rejected:
        yield "", f"cannot be used: {_counts(found.rejected)}"


def _codes(found: CodeReport) -> str:
    return (
        f"{found.image_len} a row, {found.num_codes_used:,} different ones, the largest {found.max_code:,}; "
        f"{found.num_repeated:,} of {found.num_rows:,} rows are the same as an earlier one, "
        f"{found.num_uniform:,} hold one code only"
    )
