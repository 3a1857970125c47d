"""Several training workers as processes of this machine: torch's gloo on the loopback, no Ray."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from painter_core.training.worker import Worker

TIMEOUT_S = 120
_CONTEXT = multiprocessing.get_context("forkserver")
# one process imports these, the workers are forked from it; torch._dynamo is what optimizers import
_CONTEXT.set_forkserver_preload(
    [
        "tests.training.test_training",
        "tests.support.training",
        "painter_core.stages.train.loop",
        "painter_core.stages.train.previews",
        "torch.distributed.fsdp",
        "torch._dynamo",
    ]
)


def run_ranks(
    directory: Path, world_size: int, call: Callable[..., Any], *args: Any, **variables: str
) -> None:
    """Runs `call(worker, *args)` in every worker; fails if one of them does.

    Args:
        directory: where the workers meet.
        call: a function of a module.
        variables: of their environment, beside this process'.
    """
    directory.mkdir(parents=True)
    variables = {**os.environ, **variables}  # they are forked from a process that has those of its start
    processes = [
        _CONTEXT.Process(target=_rank, args=(str(directory), rank, world_size, call, args, variables))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + TIMEOUT_S
    alive = {process.sentinel for process in processes}
    # one that died leaves the others waiting for it
    while alive and len(list(directory.glob("*.done"))) >= world_size - len(alive):
        alive -= set(wait(list(alive), max(0.0, deadline - time.monotonic())))
        if time.monotonic() > deadline:
            break
    for process in processes:
        process.kill()
        process.join()
    failed = [file.read_text() for file in sorted(directory.glob("*.failed"))]
    died = world_size - len(failed) - len(list(directory.glob("*.done")))
    # those that are left may notice it, and fail, before they are killed
    assert not died, "\n".join([f"{died} of {world_size} workers died", *failed])
    assert not failed, "\n".join(failed)


def _rank(
    directory: str, rank: int, world_size: int, call: Callable[..., Any], args: tuple, variables: dict
) -> None:
    os.environ.update(variables, GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    try:
        store = dist.FileStore(f"{directory}/store", world_size)
        timeout = timedelta(seconds=TIMEOUT_S)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=timeout)
        call(Worker(rank=rank, world_size=world_size, device=torch.device("cpu"), precision="fp32"), *args)
        dist.barrier()
        Path(directory, f"{rank}.done").touch()
    except BaseException:
        Path(directory, f"{rank}.failed").write_text(traceback.format_exc())
        raise
    finally:
        # torch sometimes aborts a process that ends in the usual way after a sharded training
        os._exit(0)
