"""A GPT whose weights, gradients and moments are spread over the workers: FSDP2, torch's fully_shard.

What is spread are DTensors: each worker has a slice of every tensor, and a block is whole only while it is at
work. Checkpoints stay what they are: the model directory holds whole weights, written by rank 0. Only the
optimizer's moments, twice as large, are written by all workers, a file each, into training/moments; they are
safetensors that any number of workers reads, also workers whose weights are not spread. Such checkpoints and
those of whole weights are taken up by each other.

All functions here but `whole_tensor` and `without_moments` are for all workers together: one that stays away
leaves the others waiting. torch's modules for this take half a second to import, so they are imported where
they are needed.
"""

import warnings
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from painter_core.files.faults import failpoint
from painter_core.models.gpt import GPT
from painter_core.models.unfilled import unfilled
from painter_core.training.worker import Worker

MOMENTS = "moments"  # in training/ of a checkpoint
NAMES = ("exp_avg", "exp_avg_sq")  # AdamW's


def shard(gpt: GPT, worker: Worker) -> None:
    """Spreads the weights of a GPT, which is the same on all workers, over them.

    Its optimizer is made after that. In bf16 the workers send each other bf16 weights and float32 gradients,
    and what passes between the blocks is bf16 too.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if worker.device.type == "cuda":
        torch.cuda.set_device(worker.device)
    mesh = init_device_mesh(worker.device.type, (worker.world_size,))
    policy = MixedPrecisionPolicy()
    if worker.precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in gpt.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(gpt, mesh=mesh, mp_policy=policy)


def _is_spread(value: object) -> bool:
    """Whether a value is a DTensor, told without the module."""
    return hasattr(value, "full_tensor")


def whole_tensor(value: Tensor) -> Tensor:
    """A tensor that may be spread over the workers, in one piece on each."""
    return cast(Any, value).full_tensor() if _is_spread(value) else value


@torch.no_grad()
def gathered(gpt: GPT, worker: Worker) -> GPT:
    """A GPT with whole weights on the CPU, on rank 0; on the others it has none."""
    found = unfilled(GPT, gpt.config)
    weights = {}
    for name, value in gpt.state_dict().items():
        whole = whole_tensor(value)
        if worker.rank == 0:
            weights[name] = whole.cpu()
    if weights:
        found.load_state_dict(weights, assign=True)
    return found


def without_moments(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state but for what is spread over the workers."""
    state = optimizer.state_dict()
    kept = {
        index: {name: value for name, value in values.items() if not _is_spread(value)}
        for index, values in state["state"].items()
    }
    return {**state, "state": kept}


def save_moments(optimizer: torch.optim.Optimizer, directory: Path | None, worker: Worker) -> None:
    """Writes every worker's share of the moments to the directory that rank 0 names.

    Args:
        directory: of a checkpoint that is being written; None on the other ranks.
    """
    import torch.distributed.checkpoint as dcp

    place = [str(directory)]
    dist.broadcast_object_list(place, src=0, device=worker.device)
    moments = {
        f"{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if _is_spread(value)
    }
    failpoint("moments_save", rank=worker.rank)
    writer = dcp.HuggingFaceStorageWriter(str(Path(place[0]) / "training" / MOMENTS), save_distributed=True)
    dcp.save(moments, storage_writer=writer)  # type: ignore[arg-type]


def load_optimizer(optimizer: torch.optim.Optimizer, stored: dict[str, Any], checkpoint: Path) -> None:
    """Takes up the state of an optimizer, whose parameters may be spread over other workers than before, or
    whole.

    Args:
        stored: the optimizer's entry of training/state.pt.
        checkpoint: directory of the checkpoint.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = stored["state"]
    directory = checkpoint / "training" / MOMENTS
    if directory.is_dir():
        moments = _read_moments(directory, parameters)
        state = {i: {**values, **{n: moments[f"{i}.{n}"] for n in NAMES}} for i, values in state.items()}
    elif _is_spread(parameters[0]):
        state = {i: _spread(values, parameters[i]) for i, values in state.items()}
    optimizer.load_state_dict({**stored, "state": state})


def _read_moments(directory: Path, parameters: list[Tensor]) -> dict[str, Tensor]:
    """The moments of the parameters, spread as they are."""
    import torch.distributed.checkpoint as dcp

    moments = {f"{i}.{name}": torch.zeros_like(p) for i, p in enumerate(parameters) for name in NAMES}
    is_alone = not _is_spread(parameters[0])  # each worker reads everything for itself
    reader = dcp.HuggingFaceStorageReader(str(directory))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as it is to be
        dcp.load(moments, storage_reader=reader, no_dist=is_alone)  # type: ignore[arg-type]
    return moments


def _spread(values: dict[str, Tensor], like: Any) -> dict[str, Tensor]:
    """A parameter's whole moments, of which this worker keeps its slice.

    Args:
        like: the parameter, a DTensor.
    """
    from torch.distributed.tensor import distribute_tensor

    return {
        name: distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
        if value.ndim
        else value
        for name, value in values.items()
    }
