"""A row that cannot be used: raised where it is found; at the row boundary it becomes a line of the rejects."""

from schemas.rejects import REASONS


class Reject(ValueError):
    """One row is to be set aside.

    Args:
        reason: a key of schemas.rejects.REASONS.
        detail: what was found, for a person; never the cell itself.
        column: the column at fault, empty when the whole line is.
    """

    def __init__(self, reason: str, detail: str, column: str = "") -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.column = column
