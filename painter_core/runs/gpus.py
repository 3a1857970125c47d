"""What the GPUs of the cluster can do, asked on their nodes before any work begins.

Ray counts the GPUs of a node by its driver; whether torch can use them is another question, and a worker that
found out alone would compute on one CPU thread.
"""

import dataclasses
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from painter_core.compute.devices import model_settings
from painter_core.compute.gpu import GpuLook, look_at_gpu
from painter_core.runs.cluster import Cluster
from painter_core.runs.flags import ModelFlags
from painter_core.runs.questions import alive_nodes, ask, ask_all, node_name
from painter_core.training.run_flags import TrainingRunFlags

log = logging.getLogger(__name__)

T = TypeVar("T")
TIMEOUT_S = 180.0  # waiting for a part of a GPU, importing torch, a compilation
SHARE = 0.01  # of a GPU, which a look takes


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """What a job's workers compute on."""

    used: bool
    bf16: bool = True
    """Whether all of them multiply in bfloat16."""


def find_gpus(flags: ModelFlags, cluster: Cluster, probe: Callable[[], str] | None = None) -> Gpus:
    """Whether a table job's workers get GPUs, and what those can do.

    Args:
        probe: tried on every node if --graphs is on: why graphs do not work there, empty if they do.

    Raises:
        ValueError: there are none for them, torch cannot use one, or what a flag asks for does not work.
    """
    if not flags.uses_gpu(cluster):
        if flags.graphs == "on":
            raise ValueError("--graphs on: only GPUs have CUDA graphs, and these workers get none")
        return Gpus(used=False)
    looks = look_at_gpus(compiling=flags.compile == "on")
    for node, look in looks.items():
        if look.compile_problem:
            raise ValueError(f"--compile on: torch.compile does not work on {node}: {look.compile_problem}")
    for node, why in ask_gpus(probe).items() if probe and flags.graphs == "on" else ():
        if why:
            raise ValueError(f"--graphs on: CUDA graphs do not work on {node}: {why}")
    bf16 = all(look.bf16 for look in looks.values())
    if flags.precision == "bf16" and not bf16:
        log.warning("--precision bf16: some GPU has no bfloat16 and emulates it, slowly; take fp32 there")
    return Gpus(used=True, bf16=bf16)


def log_models(flags: ModelFlags, cluster: Cluster) -> None:
    """What a table job's models run on, for jobs whose flags leave nothing of it open.

    Raises:
        ValueError: as of find_gpus().
    """
    model_settings(flags.precision, flags.compile, gpu=find_gpus(flags, cluster).used)


def settle_compile(flags: TrainingRunFlags, *, use_gpu: bool) -> TrainingRunFlags:
    """A training's flags, with --compile auto off where torch.compile does not work.

    Raises:
        ValueError: torch cannot use a GPU, or --compile is on and does not work.
    """
    if not use_gpu:
        return flags
    for node, look in look_at_gpus(compiling=flags.compile != "off").items():
        if not look.compile_problem:
            continue
        if flags.compile == "on":
            raise ValueError(f"--compile on: torch.compile does not work on {node}: {look.compile_problem}")
        log.warning(
            "NOT COMPILED: torch.compile does not work on %s: %s. Training goes on without, at half the "
            "speed or less; a C compiler and Python's headers (gcc, python3-dev) are needed there",
            node,
            look.compile_problem,
        )
        return dataclasses.replace(flags, compile="off")
    return flags


def look_at_gpus(*, compiling: bool) -> dict[str, GpuLook]:
    """By node, what a process that was given a part of a GPU finds; nothing without a running Ray.

    Raises:
        ValueError: torch cannot use a GPU there.
    """
    found = ask_gpus(lambda: look_at_gpu(compiling=compiling))
    for node, look in found.items():
        if look.problem:
            raise ValueError(f"{node} has a GPU, but {look.problem}")
        log.info("%s: %s%s", node, look.name, "" if look.bf16 else ", without bfloat16")
    return found


def ask_gpus(question: Callable[[], T]) -> dict[str, T]:
    """The answers of all nodes with GPUs, by `node ADDRESS`.

    A node that has no part of a GPU free in TIMEOUT_S gives none. What it takes until anything runs there at
    all (an environment may have to be installed) does not count: the node is asked without a GPU before.

    Raises:
        ValueError: nothing runs on one of these nodes.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    nodes = {node: found for node, found in alive_nodes().items() if found["Resources"].get("GPU", 0) > 0}
    ask_all(bool, nodes)
    found, silent = ask(question, nodes, seconds=TIMEOUT_S, num_gpus=SHARE)
    for name in silent:
        log.warning(
            "%s: its GPUs are busy (no answer from them in %.0f s), and were not looked at", name, TIMEOUT_S
        )
    return {node_name(nodes[node]): answer for node, answer in found.items()}
