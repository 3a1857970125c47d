"""What a table of pictures says of how they were painted, and at which settings; without torch, for pages and
scores."""

from collections.abc import Mapping, Sequence
from typing import Any


def painted_by(manifest: dict[str, Any]) -> dict[str, Any]:
    """What made the pictures, also if jobs/upscale.py or evaluate.py --keep-best wrote the table later."""
    return manifest.get("painted") or manifest.get("identity", {})


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
