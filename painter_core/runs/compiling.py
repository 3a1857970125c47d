"""--compile auto: whether the GPUs of a table job compile the model."""

import logging

log = logging.getLogger(__name__)


def is_compiled(pictures: int, workers: int, least: int) -> bool:
    """Whether that is worth it, and works on every node.

    Args:
        pictures: of the table.
        workers: GPUs that share them.
        least: pictures a GPU, below which compiling takes longer than it saves.
    """
    if pictures < least * workers:
        return False
    from painter_core.runs.gpus import look_at_gpus  # torch, which operators on CPUs do without

    for node, look in look_at_gpus(compiling=True).items():
        if look.compile_problem:
            log.warning(
                "NOT COMPILED: torch.compile does not work on %s: %s. A C compiler and Python's headers "
                "(gcc, python3-dev) are needed there; without them GPUs do about half",
                node,
                look.compile_problem,
            )
            return False
    log.info("compile on: %d pictures are worth it", pictures)
    return True
