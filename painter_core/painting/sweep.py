"""Several settings of the draws at once: --sweep "guidance-scale=1,2;temperature=0.7,1" is four of them.

A caption is painted at every setting from the same random numbers, so that what differs is the setting's.
"""

import dataclasses
import itertools
from typing import Any

from painter_core.painting.sampling import SamplingConfig

KINDS: dict[str, type[int] | type[float]] = {
    "top_k": int,
    "top_p": float,
    "temperature": float,
    "guidance_scale": float,
}
EXAMPLE = '"guidance-scale=1,1.5,2,3;temperature=0.7,1"'


def sweep_settings(text: str, base: SamplingConfig) -> list[SamplingConfig]:
    """Every combination of the values, the last name's changing fastest; other settings are those of `base`.

    Raises:
        ValueError: not of the form `name=value,value;name=value`, or a value that its flag does not take.
    """
    values: dict[str, list[Any]] = {}
    for part in text.split(";"):
        flag, found, rest = part.strip().partition("=")
        name = flag.strip().removeprefix("--").replace("-", "_")
        if not found or name not in KINDS:
            known = ", ".join(n.replace("_", "-") for n in KINDS)
            raise ValueError(
                f"--sweep: got {part.strip()!r}, expected NAME=VALUE,... with NAME of {known}: {EXAMPLE}"
            )
        if name in values:
            raise ValueError(f"--sweep: {flag.strip()} stands twice")
        values[name] = [_value(flag.strip(), KINDS[name], value.strip()) for value in rest.split(",")]
        if len(set(values[name])) < len(values[name]):
            raise ValueError(f"--sweep: {flag.strip()}: a value stands twice in {rest}")
    return [
        dataclasses.replace(base, **dict(zip(values, chosen, strict=True)))
        for chosen in itertools.product(*values.values())
    ]


def swept_names(text: str) -> tuple[str, ...]:
    """The settings that change, as columns name them."""
    return tuple(
        part.partition("=")[0].strip().removeprefix("--").replace("-", "_") for part in text.split(";")
    )


def _value(flag: str, kind: type[int] | type[float], text: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"--sweep: {flag}: got {text!r}, expected a number") from None
