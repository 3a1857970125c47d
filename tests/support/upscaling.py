"""Enlarging a table without Ray, and a random super-resolution network with its own forward pass."""

import sys
import types
from pathlib import Path

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from painter_core.runs.run import Run
from painter_core.runs.table_run import TableRun
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.stages.upscale.run import parts_of, steps_of, table_job
from painter_core.stages.upscale.source import find_source
from painter_core.tables.manifest import iter_parts
from painter_core.upscaling.upscaler import plan_upscaler
from tests.support.local_run import ALONE

FEATURES, CONVS = 8, 2
REACH_PX = CONVS + 2  # how far such a network sees: one pixel for each of its 3 x 3 convolutions


def import_spandrel() -> None:
    """Imports spandrel, also where torchvision is missing, of which it takes three names for networks that
    do not enlarge. PyPI's torchvision is built for CUDA: beside a torch for CPUs it cannot be imported, and
    in such an environment other packages (transformers) then stop at theirs. So the tests' has none."""
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        stand_ins = {name: types.ModuleType(name) for name in names}
        for needed in ("InterpolationMode", "rotate", "normalize"):
            setattr(stand_ins[names[-1]], needed, None)
        sys.modules.update(stand_ins)
        import spandrel  # noqa: F401

        for name in names:
            del sys.modules[name]


def write_torchvision(folder: Path) -> Path:
    """The same for processes that a test starts: a package of that name, for their PYTHONPATH."""
    transforms = folder / "torchvision" / "transforms"
    transforms.mkdir(parents=True)
    (folder / "torchvision" / "__init__.py").touch()
    (transforms / "__init__.py").touch()
    (transforms / "functional.py").write_text("InterpolationMode = rotate = normalize = None\n")
    return folder


def compact_state(scale: int, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of an SRVGGNetCompact."""
    generator = torch.Generator().manual_seed(seed)
    widths = [3, *[FEATURES] * (CONVS + 1)]
    state: dict[str, Tensor] = {}
    for i, (inner, outer) in enumerate(zip(widths, [*widths[1:], 3 * scale**2], strict=True)):
        state[f"body.{2 * i}.weight"] = torch.randn(outer, inner, 3, 3, generator=generator) * 0.15
        state[f"body.{2 * i}.bias"] = torch.randn(outer, generator=generator) * 0.02
        if i < len(widths) - 1:
            state[f"body.{2 * i + 1}.weight"] = torch.rand(FEATURES, generator=generator) * 0.3
    return state


def compact_forward(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """What an SRVGGNetCompact of these weights makes of (1, 3, H, W): convolutions with PReLUs between them,
    their channels laid out as pixels, and the picture itself added."""
    x, last = pixels, 2 * (CONVS + 1)
    for i in range(0, last + 1, 2):
        x = F.conv2d(x, state[f"body.{i}.weight"], state[f"body.{i}.bias"], padding=1)
        if i < last:
            x = F.prelu(x, state[f"body.{i + 1}.weight"])
    scale = round((x.shape[1] / 3) ** 0.5)
    return F.pixel_shuffle(x, scale) + F.interpolate(pixels, scale_factor=scale, mode="nearest")


def write_network(path: Path, scale: int, seed: int = 0) -> Path:
    """A file as BasicSR writes it."""
    torch.save({"params": compact_state(scale, seed)}, path)
    return path


def enlarge_table(config: UpscaleConfig) -> pa.Table:
    """What jobs/upscale.py writes, made in this process."""
    with Run(config.paths()) as run:
        upscaler, source = plan_upscaler(config.upscaling), find_source(config)
        table = TableRun(table_job(config, source, upscaler), run, ALONE)
        table.execute_here(*steps_of(config, source, upscaler, table), parts=parts_of(source))
    return pa.concat_tables(iter_parts(config.table.outputs))
