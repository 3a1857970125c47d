"""Whether a model was trained without captions too: what its card says (painter_core/training/card.py)."""

import json
import logging

from painter_core.model_files.directory import ModelDirectory

log = logging.getLogger(__name__)

CARD = "README.md"


def caption_dropout(model: ModelDirectory) -> float | None:
    """Share of its training samples that had no caption; None if the card does not say."""
    path = model.path / CARD
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    _, found, rest = text.rpartition("```json\n")
    try:
        facts = json.loads(rest.partition("\n```")[0]) if found else {}
    except ValueError:  # somebody wrote in it
        return None
    value = facts.get("caption_dropout") if isinstance(facts, dict) else None
    return float(value) if isinstance(value, int | float) else None


def warn_of_gain(model: ModelDirectory) -> None:
    """Warns of score_gain where the model never saw an empty caption: what it compares with is a guess."""
    share = caption_dropout(model)
    if not share:
        seen = "has never seen an empty caption (trained with --caption-dropout 0)"
        unknown = "does not say whether it has seen empty captions (--caption-dropout of jobs/train.py)"
        log.warning("gain: the model %s; --rank-by logp needs none", unknown if share is None else seen)
