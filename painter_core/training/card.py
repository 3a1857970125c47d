"""README.md of a model directory that a training wrote."""

import json
from typing import Any


def model_card(title: str, job: str, facts: str, identity: dict[str, Any]) -> str:
    """Markdown.

    Args:
        title: what the model is.
        job: the script that wrote it.
        facts: how far it is and what was measured.
        identity: what it is made from, as in plan.json.
    """
    # sorted, as a resumed run reads it from plan.json
    made_from = json.dumps(identity, ensure_ascii=False, indent=1, sort_keys=True)
    return f"# {title}\n\nWritten by `{job}`.\n\n{facts}\n\n```json\n{made_from}\n```\n"
