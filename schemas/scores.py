"""scores: attributes read off painted pictures beside those that their captions ask for.

Key: (part, row). wanted_* and read_* are values of painter_core.sample.captions.VALUES.
"""

import pyarrow as pa

NAME = "scores"


def schema(attributes: tuple[str, ...]) -> pa.Schema:
    """The schema for some attributes."""
    names = ["idx", "text", *(f"wanted_{a}" for a in attributes), *(f"read_{a}" for a in attributes)]
    return pa.schema([pa.field(name, pa.string()) for name in names])
