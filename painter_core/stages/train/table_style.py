"""The prefix and suffix of a training's captions: its own flags', or those that its tables were made with."""

from typing import Any

from painter_core.files.storage import redact
from painter_core.text.prompt_style import PromptStyle


def table_style(flags: PromptStyle, tables: list[str], manifests: list[dict[str, Any]]) -> PromptStyle:
    """What is put around the captions of the tables: as the flags say, or as they were made or painted with.

    Raises:
        ValueError: these do not agree.
    """
    found = [PromptStyle.of_identity(manifest["identity"]) for manifest in manifests]
    wanted = flags or found[0]
    for table, style in zip(tables, found, strict=True):
        if style != wanted and (style or not flags):
            raise ValueError(
                f"--tables {redact(table)}: made with --prompt-prefix {style.prompt_prefix!r} and "
                f"--prompt-suffix {style.prompt_suffix!r}, but this training has {wanted.prompt_prefix!r} "
                f"and {wanted.prompt_suffix!r}; captions of a training have one, or it stands in their text"
            )
    return wanted
