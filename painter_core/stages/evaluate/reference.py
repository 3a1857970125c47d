"""The reference of an evaluation: features of a table, or a file of statistics."""

import logging
from pathlib import Path

from painter_core.evaluation.score import Reference
from painter_core.evaluation.statistics import (
    ABOUT,
    Statistics,
    load_statistics,
    save_statistics,
    statistics,
)
from painter_core.files.storage import join, redact
from painter_core.stages.evaluate.extract import Extracted, extract
from painter_core.stages.evaluate.judging import InceptionJudge
from painter_core.stages.evaluate.reduce import ReferenceSet
from painter_core.tables.records import read_manifest
from schemas import scores

log = logging.getLogger(__name__)


def check_reference(reference: str, judge: InceptionJudge) -> None:
    """Finds out whether a reference that is not to be computed fits the flags.

    Args:
        reference: an .npz, or a scores table with Inception's features.

    Raises:
        ValueError: it was made in another way, or is none.
    """
    if reference.endswith(".npz"):
        _statistics(reference, judge)
        return
    made = read_manifest(reference)["identity"]
    found = {"weights_sha256": made.get("inception_sha256"), "resize": made.get("resize")}
    for name, value in found.items():
        if value != judge.about(0)[name]:
            raise ValueError(
                f"--reference {redact(reference)}: its features have {name} {value}, those of --tables "
                f"{judge.about(0)[name]}; they cannot be compared. Make it again with --stats-only"
            )
    if missing := sorted(set(judge.blurs) - set(made["blurs"])):
        raise ValueError(
            f"--reference {redact(reference)}: has no features of blur {missing}; make it again with "
            f"--stats-only --fid-blur {','.join(map(str, judge.blurs))}"
        )


def open_reference(
    reference: str, features: str | None, judge: InceptionJudge, folder: Path
) -> tuple[ReferenceSet, list[str]]:
    """The reference, and what a reader must know about it.

    Args:
        reference: as given.
        features: the scores table that was made of it; None for a file of statistics.
        folder: an empty directory for its features.
    """
    if features is None:
        found, remarks = _statistics(reference, judge)
        shown = Reference(path=redact(reference), n=found.n)
        return ReferenceSet(shown=shown, statistics={judge.blurs[0]: found}), remarks
    extracted = extract(features, reference, folder)
    rows = extracted.rows
    vectors = {blur: extracted.vectors[scores.inception_column(blur)] for blur in judge.blurs}
    shown = Reference(path=redact(reference), n=rows.pictures, rows=rows)
    return ReferenceSet(shown=shown, features=vectors), []


def _statistics(reference: str, judge: InceptionJudge) -> tuple[Statistics, list[str]]:
    if len(judge.blurs) > 1:
        raise ValueError(
            f"--reference {redact(reference)}: statistics are of one blur, but --fid-blur names "
            f"{len(judge.blurs)}; give a table"
        )
    found, wanted = load_statistics(reference, scores.INCEPTION_WIDTH), judge.about(judge.blurs[0])
    for name in ABOUT:
        if name in found.about and found.about[name] != wanted[name]:
            raise ValueError(
                f"--reference {redact(reference)}: made with {name} {found.about[name]}, but --tables are "
                f"measured with {wanted[name]}; they cannot be compared"
            )
    missing = [name for name in ABOUT if name not in found.about]
    remarks = []
    if missing:
        remarks.append(
            f"the reference {redact(reference)} does not say its {', '.join(missing)}: that it was made as "
            "the tables' features were is assumed"
        )
        log.warning(remarks[0])
    return found, remarks


def keep_statistics(outputs: str, found: Extracted, judge: InceptionJudge) -> list[str]:
    """Writes mean and covariance of a table's features beside them; returns the files.

    Raises:
        ValueError: the table has fewer than 2 pictures.
    """
    files = []
    for blur in judge.blurs:
        path = join(outputs, f"statistics-blur{blur}.npz" if blur else "statistics.npz")
        rows = found.vectors[scores.inception_column(blur)]
        save_statistics(path, statistics([rows], judge.about(blur)))
        files.append(path)
    return files
