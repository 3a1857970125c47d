"""What a table job does to its units, as a list of steps.

The list is written once, by the stage; Ray Data runs it over the cluster (ray_data.py), --dry-run and the
tests run it in one process (run_here).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from painter_core.tables.unit_row import UnitRow

Operator = Callable[[UnitRow], UnitRow]


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """An operator without state, run by tasks on CPUs."""

    operator: Operator
    cpus: float = 1.0
    """CPUs of a task; where models need them too, the share of all CPUs that the operator may have."""


@dataclass(frozen=True, kw_only=True)
class Actors:
    """An operator that holds a model, run by a pool of workers."""

    operator: Callable[..., Operator]
    """Its class."""
    arguments: dict[str, Any]
    """Constructor arguments of the class."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The last step: a unit's part is built and written."""

    build: Callable[[UnitRow], pa.Table]
    cpus: float = 0.5


Step = Tasks | Actors


def name_of(operator: object) -> str:
    """What a step is called, for people."""
    return str(getattr(operator, "__name__", type(operator).__name__))


def run_here(units: Iterable[UnitRow], steps: Sequence[Step]) -> Iterator[UnitRow]:
    """The units after the steps, one by one, in this process; models are loaded once."""
    operators = [s.operator if isinstance(s, Tasks) else s.operator(**s.arguments) for s in steps]
    for row in units:
        for operator in operators:
            row = operator(row)
        yield row
