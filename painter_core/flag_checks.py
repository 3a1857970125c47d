"""Ranges of numeric flags: what a flag cannot mean is refused with its name, before anything is done."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

MOST_SEED = 2**63 - 1  # torch's generators and the tables' int64 hold it


def check_range(flag: str, value: float | None, least: float, most: float, *, above: bool = False) -> None:
    """Raises ValueError unless a flag's number is in [least, most]; None, for a flag not given, is.

    Args:
        flag: as on the command line, `--top-k`.
        value: NaN is outside of every range, infinity of every finite one.
        above: `least` itself is not allowed.
    """
    if value is None or ((least < value if above else least <= value) and value <= most):
        return
    expected = f"above {least:g} and at most {most:g}" if above else f"{_plain(least)} to {_plain(most)}"
    raise ValueError(f"{flag}: got {value}, expected {expected}")


def check_seed(value: int, flag: str = "--random-seed") -> None:
    """Raises ValueError unless a seed is one for all generators."""
    check_range(flag, value, 0, MOST_SEED)


def refuse_unused(config: Any, names: Iterable[str], why: str) -> None:
    """Raises ValueError for the first of these fields that is not at its default: the flag would do nothing.

    Args:
        config: a dataclass of flags.
        names: its fields.
        why: the rest of the message.
    """
    defaults = {
        f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields(config)
    }
    for name in names:
        if getattr(config, name) != defaults[name]:
            raise ValueError(f"--{name.replace('_', '-')}: does nothing {why}; leave it out")


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
