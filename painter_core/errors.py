"""How a row or a run may fail.

A row: Reject. A run: ValueError before anything is written (exit code 2), Refused (4), Stop (its own
code), Changed (1).
"""

from schemas import rejects


class Reject(ValueError):
    """One row is to be set aside.

    Args:
        reason: a key of schemas.rejects.REASONS.
        detail: what was found, for a person; never the cell itself.
        column: the column at fault, empty when the whole line is.
    """

    def __init__(self, reason: str, detail: str, column: str = "") -> None:
        assert reason in rejects.REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.column = column


class Refused(Exception):
    """The output exists and is not this run's: exit code 4, nothing changed."""


class Changed(RuntimeError):
    """What the run is made from is no longer what it was planned with: it stops (exit code 1)."""


class Stop(Exception):
    """The run ends early with this exit code; what is committed stays.

    Args:
        code: exit code.
        message: for the log and the summary.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
