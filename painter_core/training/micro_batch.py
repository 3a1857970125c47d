"""How many samples a forward pass of a training worker takes where nobody has said it."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn

from painter_core.compute.memory import fitting_rows, training_row_bytes
from painter_core.models.gpt import GPTConfig
from painter_core.training.gpt_config import MICRO_BATCH, TrainConfig
from painter_core.training.worker import Worker

log = logging.getLogger(__name__)

# more rows a pass are no faster (benchmarks/RESULTS.md)
GPU_ROWS = 256


def awaited_bytes(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], worker: Worker, *, is_sharded: bool
) -> int:
    """What a training will allocate for the weights that this worker trains and has: gradients, once more as
    DistributedDataParallel sends them, and two moments if the optimizers have none yet."""
    trained = sum(
        p.element_size() * (cast(Any, p).to_local() if is_sharded else p).numel()
        for p in model.parameters()
        if p.requires_grad
    )
    copies = 2 if worker.world_size > 1 and not is_sharded else 1
    if not any(optimizer.state for optimizer in optimizers):
        copies += 2
    return copies * trained


def with_micro_batch(
    config: TrainConfig, gpt: GPTConfig, worker: Worker, global_batch_size: int, awaited: int
) -> TrainConfig:
    """A config that says its micro-batch: on a GPU with --batch-size what the memory takes that is free, the
    same on all ranks; else MICRO_BATCH.

    It changes no sample of an update, and its sums only as another order of summation does.

    Args:
        awaited: bytes that are free and will not stay so: see awaited_bytes().
    """
    if config.micro_batch_size is not None:
        return config
    rows = MICRO_BATCH
    if worker.device.type == "cuda" and config.batch_size is not None:
        free, _ = torch.cuda.mem_get_info(worker.device)
        needed = training_row_bytes(
            gpt,
            worker.precision,
            again=config.activation_checkpointing,
            with_dropout=config.regularisation.dropout > 0,
        )
        share = math.ceil(global_batch_size / worker.world_size)
        most = min(GPU_ROWS, 2 ** math.ceil(math.log2(share)))
        least = torch.tensor(fitting_rows(needed, free - awaited, most))
        if worker.world_size > 1:
            least = least.to(worker.device)
            dist.all_reduce(least, dist.ReduceOp.MIN)
        rows = int(least)
        log.info("micro-batch %d of %d samples a worker and update, by the memory that is free", rows, share)
    elif worker.device.type == "cuda" and worker.rank == 0:
        log.warning(
            "updates of %d samples leave a GPU mostly idle: --batch-size 128 trains several times as many "
            "samples a second; it is another batch, and so another result",
            global_batch_size,
        )
    return dataclasses.replace(config, micro_batch_size=rows)
