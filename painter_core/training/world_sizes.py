"""With how many workers a training did which of its steps: [[steps done before, workers], ...]."""


def continued(history: list[list[int]], step: int, num_workers: int) -> list[list[int]]:
    """The history of a run that goes on.

    Args:
        history: as its checkpoint has it; empty at the beginning, or in one of an older version.
        step: steps done.
        num_workers: from here on.
    """
    if history and history[-1][1] == num_workers:
        return history
    return [*history, [step, num_workers]]


def told(history: list[list[int]], num_steps: int) -> str:
    """The history in words: `steps 1-400: 3 workers; 401-500: 2 workers`."""
    ends = [*(begin for begin, _ in history[1:]), num_steps]
    parts = (
        f"{begin + 1}-{end}: {number} worker{'s' if number > 1 else ''}"
        for (begin, number), end in zip(history, ends, strict=True)
    )
    return "steps " + "; ".join(parts)
