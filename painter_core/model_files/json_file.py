"""Small JSON files beside a model's weights."""

import json
from pathlib import Path
from typing import Any

from painter_core.model_files.not_weights import check_download

MAX_JSON_BYTES = 2**20


def read_json_object(file: Path) -> dict[str, Any]:
    """A small JSON file that holds an object.

    Raises:
        ValueError: it is large, damaged or holds something else.
    """
    if file.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{file}: {file.stat().st_size:,} bytes; this is no config")
    check_download(file)
    try:
        spec = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON: {error}") from None
    if not isinstance(spec, dict):
        raise ValueError(f"{file}: holds a {type(spec).__name__}, expected an object")
    return spec
