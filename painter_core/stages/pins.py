"""What a run is made from is named by its content, and is that content when a worker loads it.

A model may change between the driver's look at it and a worker's: a training publishes a better one, somebody
copies another over it, a worker is started again an hour later. Each worker compares what it loaded.
"""

from collections.abc import Mapping
from typing import Any

from painter_core.errors import Changed
from painter_core.files.storage import redact, sha256
from painter_core.model_files.chinese_clip import open_clip
from painter_core.model_files.directory import ModelDirectory


def check_pins(what: str, found: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Compares sums of what was loaded with those that the run was planned with.

    Args:
        what: path or name of the model or table, for the message.
        found: name in the identity -> sha256 (or files with sizes and times), taken after loading.
        identity: of the run.

    Raises:
        Changed: another content.
    """
    for name, value in found.items():
        if value != identity[name]:
            raise Changed(
                f"{redact(what)}: {name} is {_short(value)}, but the run was planned with "
                f"{_short(identity[name])}: it changed while the job ran. What is done is kept; put the old "
                "one back and submit again, or start over with --overwrite"
            )


def _short(value: Any) -> str:
    return value[:16] if isinstance(value, str) else str(value)[:200]


def model_pins(model: ModelDirectory, *, text_head: bool = False) -> dict[str, str]:
    """Sums of a model with a GPT, as generate names them; of the tokenizer, which is read with it; and of the
    text head, where captions are written or scored."""
    pins = {"gpt_sha256": model.gpt_sha256(), "tokenizer_sha256": model.load_tokenizer().sha256}
    return pins | ({"text_head_sha256": model.text_head_sha256()} if text_head else {})


def clip_pins(directory: str) -> dict[str, str]:
    """Sums of a CLIP's weights and tokenizer."""
    found = open_clip(directory)
    return {"clip_sha256": found.sha256(), "clip_tokenizer_sha256": found.load_tokenizer().sha256}


def content_sha256(manifest: Mapping[str, Any]) -> str:
    """What names a finished table's rows: its parts' sums, in order."""
    return sha256("\n".join(part["sha256"] for part in manifest["parts"]).encode())
