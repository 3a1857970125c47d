"""What a table that generate.py --sweep painted says of its settings; without torch, for pages and scores."""

from collections.abc import Mapping, Sequence
from typing import Any


def changing(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What distinguishes each setting from the others, by name.

    Args:
        settings: `sweep` of the table's identity.
    """
    names = [name for name in settings[0] if len({s[name] for s in settings}) > 1]
    return [{name: setting[name] for name in names} for setting in settings]


def pictures_a_setting(identity: Mapping[str, Any]) -> int:
    """Pictures of a caption that were kept at each setting."""
    return identity.get("keep_best") or identity.get("max_generated_num", 1)
